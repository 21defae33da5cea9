from __future__ import annotations

from collections.abc import Callable

import pytest

from tunmesh.config import ConfigErrors
from tunmesh.loader import PluginHost

Install = Callable[..., None]
MakeHost = Callable[..., PluginHost]

SOURCE = """
import msgspec
from typing import Annotated
from tunmesh.plugin import TransportRegistration, TunRegistration, hookimpl

class One(msgspec.Struct, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1)] = 1
    shared: str = ""

class Two(msgspec.Struct, frozen=True):
    device: str = "tun1"
    shared: str = ""

@hookimpl
def tunmesh_transports():
    return [TransportRegistration(summary="s", factory=object, options=One)]

@hookimpl
def tunmesh_tun_backends():
    return [TunRegistration(summary="s", factory=object, options=Two)]
"""


def test_a_table_is_shared_by_the_roles_of_a_plugin(install: Install, make_host: MakeHost) -> None:
    install("a", SOURCE)
    host = make_host(a={"port": "${PORT}", "device": "x", "shared": "y"})
    host.load(["a"], explicit=True)
    assert host.option_problems() == []
    one, two = host.options("a", "transport"), host.options("a", "tun")
    assert (one.port, one.shared, two.device, two.shared) == (9, "y", "x", "y")


def test_a_plugin_without_table_has_its_defaults(install: Install, make_host: MakeHost) -> None:
    install("a", SOURCE)
    host = make_host()
    host.load(["a"], explicit=True)
    assert host.options("a", "transport").port == 1


def test_all_problems_of_all_tables(install: Install, make_host: MakeHost) -> None:
    install("a", SOURCE)
    install("b", SOURCE)
    host = make_host(a={"prot": 1, "shared": 1}, b={"port": 0}, c={})
    host.load(["b", "a"], explicit=True)
    assert [str(problem) for problem in host.option_problems()] == [
        "plugins.c: no plugin c is installed",
        "plugins.b.port: expected an integer >= 1",
        "plugins.a.prot: unknown key, did you mean port?",
        "plugins.a.shared: expected a string, got an integer",
    ]
    with pytest.raises(ConfigErrors, match="unknown key"):
        host.options("a", "tun")


def test_tables_of_plugins_that_are_not_selected_are_not_looked_at(
    install: Install, make_host: MakeHost
) -> None:
    install("a", SOURCE)
    install("b", SOURCE)
    host = make_host(b={"port": 0})
    host.load(["a"], explicit=True)
    assert host.option_problems() == []
