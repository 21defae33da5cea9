from __future__ import annotations

import datetime as dt
import tomllib
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tunmesh.config import Duration, Subnet, load_config, read_config
from tunmesh.config.render import PluginTable, example, show
from tunmesh.config.toml import plain, toml_value
from tunmesh.config.types import Document


class Nested(msgspec.Struct, frozen=True):
    """What is inside."""

    depth: int = 1


class Options(msgspec.Struct, frozen=True):
    """Options of a test."""

    listen: Annotated[tuple[str, ...], Meta(description="where to listen")] = ("a", "b")
    wait: Duration = Duration("10s..20s")
    password: Annotated[str, Meta(extra={"secret": True})] = ""
    proxy: str = ""
    limit: int | None = None
    nested: Nested = Nested()
    many: Annotated[dict[str, Nested], Meta(extra={"example": "one"})] = {}


class More(msgspec.Struct, frozen=True):
    wait: Duration = Duration("10s..20s")
    more: bool = True


DATE = dt.date(2026, 1, 2)
TABLE = PluginTable("x", "a test", (Options(), More()))


def test_the_example_is_toml_with_every_key_and_its_default() -> None:
    document = tomllib.loads(example(["x"], [TABLE]))
    for section in Document.__struct_fields__:
        if section not in {"plugins", "bootstrap"}:
            defaults = getattr(Document(), section)
            assert document[section] == plain(defaults)
    assert document["bootstrap"] == {"seeds": {"urls": [], "retries": -1, "interval": "5s"}}
    assert document["plugins"] == {
        "enabled": ["x"],
        "x": {
            "listen": ["a", "b"],
            "wait": "10s..20s",
            "password": "",
            "proxy": "",
            "nested": {"depth": 1},
            "many": {"one": {"depth": 1}},
            "more": True,
        },
    }


def test_the_example_explains_every_key() -> None:
    text = example([], [])
    for field in msgspec.structs.fields(type(Document().timing)):
        assert f"\n{field.name} = " in text
    assert all(len(line) <= 100 for line in text.splitlines())
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[index - 1].startswith("# "), line


def test_the_example_explains_options_of_plugins() -> None:
    text = example([], [TABLE])
    assert "# A test.\n[plugins.x]\n# Where to listen. (restart)\nlisten = " in text
    assert "# limit =\n" in text
    assert "# What is inside.\n[plugins.x.nested]\n" in text


def test_the_example_is_a_configuration(tmp_path: Any) -> None:
    path = tmp_path / "x.toml"
    path.write_text(example(["x"], []))
    problems = read_config(str(path), environ={}, complete=True)[1]
    assert [problem.key for problem in problems] == ["mesh.networks"]


def test_show_is_a_configuration_that_means_the_same(tmp_path: Any) -> None:
    sets = [
        'mesh.networks=["10.0.0.0/8"]',
        'node.subnets=["10.1.0.0/16", {prefix = "10.2.0.0/16", metric = 3}]',
        'bootstrap."a b".urls=["udp://1.2.3.4:5"]',
        "timing.keepalive=1500ms",
    ]
    config = load_config(None, sets=sets, plugins="x,y", environ={})
    path = tmp_path / "x.toml"
    path.write_text(show(config, [], {}))
    again = load_config(str(path), environ={})
    for section in Document.__struct_fields__:
        assert getattr(again, section) == getattr(config, section)


def test_show_masks_secrets() -> None:
    options = Options(password="topsecret", proxy="http://me:topsecret@proxy:3128")
    config = load_config(None, environ={})
    mesh = msgspec.structs.replace(config.mesh, secret="topsecret")
    text = show(
        msgspec.structs.replace(config, mesh=mesh),
        [PluginTable("x", "", (options,))],
        {"y": {"api_token": "topsecret", "urls": ["http://a:topsecret@b"], "x": {"y": DATE}}},
    )
    assert "topsecret" not in text
    document = tomllib.loads(text)
    assert document["mesh"]["secret"] == "***"
    assert document["plugins"]["x"]["proxy"] == "http://me:***@proxy:3128"
    assert document["plugins"]["y"] == {
        "api_token": "***",
        "urls": ["http://a:***@b"],
        "x": {"y": str(DATE)},
    }
    assert "#" not in text


def test_a_shorthand_is_used_where_it_says_all() -> None:
    prefix = load_config(None, sets=['node.subnets=["10.0.0.0/8"]'], environ={}).node.subnets[0]
    assert plain(prefix) == "10.0.0.0/8"
    assert plain(Subnet(prefix.prefix, 1)) == {"prefix": "10.0.0.0/8", "metric": 1}


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\x7f", "\x00", "é", "\U0001f600"])
def test_strings_are_escaped(text: str) -> None:
    assert tomllib.loads(f"a = {toml_value(text)}") == {"a": text}


TOML = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(TOML)
def test_any_value_can_be_read_again(value: Any) -> None:
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value
