from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tunmesh.config import Config, load_config
from tunmesh.config.applies import Applies
from tunmesh.config.plan import Change, compare, compare_configs
from tunmesh.config.toml import toml_value


class Inner(msgspec.Struct, frozen=True):
    applies: ClassVar[Applies] = "live"

    depth: int = 1
    token: Annotated[str, Meta(extra={"secret": True})] = ""


class Options(msgspec.Struct, frozen=True):
    fixed: int = 1
    free: Annotated[int, Meta(extra={"applies": "live"})] = 1
    proxy: Annotated[str, Meta(extra={"applies": "reconnect"})] = ""
    inner: Inner = Inner()
    many: dict[str, Inner] = {}


def changes(old: Options, new: Options, **more: Any) -> dict[str, tuple[str, str, str]]:
    return {c.key: (c.old, c.new, c.applies) for c in compare(old, new, "p", **more)[1]}


def test_nothing_changed() -> None:
    assert compare(Options(), Options()) == (Options(), [])


def test_values_are_shown_with_what_they_take() -> None:
    new = Options(fixed=2, free=3, inner=Inner(depth=4))
    assert changes(Options(), new) == {
        "p.fixed": ("1", "2", "restart"),
        "p.free": ("1", "3", "live"),
        "p.inner.depth": ("1", "4", "live"),
    }


def test_what_takes_a_restart_keeps_its_value() -> None:
    in_force, _ = compare(Options(), Options(fixed=2, free=3, proxy="x"))
    assert in_force == Options(fixed=1, free=3, proxy="x")


def test_tables_come_and_go() -> None:
    old, new = (
        Options(many={"a": Inner(), "b": Inner()}),
        Options(many={"b": Inner(7), "c d": Inner()}),
    )
    assert changes(old, new) == {
        "p.many.a": ('{depth = 1, token = ""}', "", "live"),
        "p.many.b.depth": ("1", "7", "live"),
        'p.many."c d"': ("", '{depth = 1, token = ""}', "live"),
    }
    assert compare(old, new)[0].many == new.many


def test_secrets_are_masked() -> None:
    old = Options(inner=Inner(token="hush"), proxy="http://me:word@proxy:1")
    new = Options(many={"a": Inner(token="hush")})
    shown = changes(old, new)
    assert shown["p.inner.token"] == ('"***"', '""', "live")
    assert shown["p.proxy"][0] == '"http://me:***@proxy:1"'
    assert "hush" not in str(shown)
    assert "word" not in str(shown)


def test_keys_may_be_held_until_a_restart() -> None:
    new = Options(free=2, many={"a": Inner()})
    assert {c[2] for c in changes(Options(), new, held=lambda _: True).values()} == {"restart"}
    assert compare(Options(), new, "p", lambda _: True)[0] == Options()
    assert compare(Options(), new, "p", lambda key: key == "p.many.a")[0] == Options(free=2)


@given(
    *[
        st.builds(
            Options,
            st.integers(),
            st.integers(),
            many=st.dictionaries(st.sampled_from("abc"), st.builds(Inner, st.integers())),
        )
    ]
    * 2
)
def test_what_was_applied_is_not_planned_again(old: Options, new: Options) -> None:
    in_force, first = compare(old, new)
    again, rest = compare(in_force, new)
    assert again == in_force
    assert rest == [change for change in first if change.applies == "restart"]


def load(path: Path, text: str) -> Config:
    path.write_text(text)
    return load_config(str(path), environ={})


def test_whole_configurations(tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    old = load(file, '[mesh]\nnetworks = ["10.42.0.0/16"]\n[log]\nlevel = "info"\n')
    new = load(
        file,
        '[mesh]\nnetworks = ["10.43.0.0/16"]\n[log]\nlevel = "debug"\n'
        '[bootstrap.seeds]\nurls = ["udp://192.0.2.1:1"]\n[plugins.x]\na = 1\n'
        '[node]\nsubnets = ["192.168.1.0/24", {prefix = "192.168.2.0/24", metric = 1}]\n',
    )
    in_force, found = compare_configs(old, new)
    assert found == [
        Change("mesh.networks", '["10.42.0.0/16"]', '["10.43.0.0/16"]', "restart"),
        Change(
            "node.subnets",
            "[]",
            '["192.168.1.0/24", {prefix = "192.168.2.0/24", metric = 1}]',
            "live",
        ),
        Change(
            "bootstrap.seeds",
            "",
            toml_value({"urls": ["udp://192.0.2.1:1"], "retries": -1, "interval": "5s"}),
            "live",
        ),
        Change("log.level", '"info"', '"debug"', "live"),
    ]
    assert in_force.mesh.networks == (ip_network("10.42.0.0/16"),)
    assert in_force.node == new.node
    assert in_force.plugins.tables == {"x": {"a": 1}}
    assert in_force.origin is new.origin
