"""What plugins find wrong with the host; a plugin that fails hides no other."""

from __future__ import annotations

from tests.core.loader.conftest import Install, MakeHost
from tunmesh.interfaces import HostView

CHECK = """
import msgspec
from tunmesh.plugin import Finding, TransportRegistration, hookimpl

class Options(msgspec.Struct, frozen=True):
    volume: int = 5

@hookimpl
def tunmesh_transports():
    return [TransportRegistration(summary="good", factory=object, options=Options)]

@hookimpl
def tunmesh_checks(host):
    yield Finding("volume", "ok", f"is {host.options.volume}")
"""
BROKEN = """
from tunmesh.plugin import hookimpl

@hookimpl
def tunmesh_checks(host):
    1 / 0
"""
WRONG = """
from tunmesh.plugin import hookimpl

@hookimpl
def tunmesh_checks():
    return ["all is well"]
"""


def test_plugins_are_asked_with_their_options(install: Install, make_host: MakeHost) -> None:
    install("good", CHECK)
    install("broken", BROKEN)
    install("wrong", WRONG)
    host = make_host(good={"volume": 11})
    host.load(["broken", "good", "wrong"], explicit=True, fill=False)
    found = [(name, finding.level, finding.text) for name, finding in host.check_host(HostView())]
    assert found == [
        (
            "broken",
            "warning",
            "the check of plugin broken failed: ZeroDivisionError: division by zero",
        ),
        ("good", "ok", "is 11"),
        (
            "wrong",
            "warning",
            "the check of plugin wrong failed: TypeError: 'all is well' is no Finding",
        ),
    ]


def test_wrong_options_are_told_elsewhere(install: Install, make_host: MakeHost) -> None:
    install("good", CHECK)
    host = make_host(good={"volume": "loud"})
    host.load(["good"], explicit=True, fill=False)
    assert host.check_host(HostView()) == []
    assert len(host.option_problems()) == 1
