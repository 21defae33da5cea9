from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tunmesh.config.convert import Converter
from tunmesh.config.problems import Origin
from tunmesh.durations import Duration
from tunmesh.errors import ConfigError
from tunmesh.interfaces.tun import Interface, Network


class Pair(msgspec.Struct, frozen=True):
    shorthand: ClassVar[str] = "left"

    left: Annotated[int, Meta(ge=0)]
    right: int = 7


class Options(msgspec.Struct, frozen=True):
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    ratio: float = 0.5
    on: bool = False
    name: str = ""
    mode: Literal["auto", "manual"] = "auto"
    mtu: Literal["auto"] | Annotated[int, Meta(ge=1280)] = "auto"
    port: Annotated[str, Meta(pattern=r"^\d+$", description="a port, as 4567")] = "1"
    ports: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=3)] = (
        1,
    )
    pairs: tuple[Pair, ...] = ()
    groups: dict[str, Pair] = {}
    labels: dict[str, str] = {}
    wait: Duration = Duration("1s")
    networks: tuple[Network, ...] = ()
    interface: Interface | None = None
    file: Annotated[str, Meta(extra={"path": True})] = ""
    files: Annotated[tuple[str, ...], Meta(extra={"path": True})] = ()
    key: Annotated[str, Meta(extra={"secret": True}, min_length=3)] = "abc"
    pin: Annotated[Literal["1", "2"], Meta(extra={"secret": True})] = "1"
    run: Annotated[tuple[str | list[str], ...], Meta(extra={"verbatim": True})] = ()


class Checked(msgspec.Struct, frozen=True):
    low: int = 0
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError("must not be more than high", key="low")
        if self.high > 100:
            raise ValueError("the range is too wide")


def convert(table: dict[str, Any], environ: dict[str, str] | None = None) -> tuple[Any, list[str]]:
    converter = Converter(Origin("/etc/x.toml"), environ or {})
    options = converter.table(Options, table, "t")
    return options, [str(problem).removeprefix("/etc/x.toml: ") for problem in converter.problems]


def good(table: dict[str, Any], **environ: str) -> Any:
    options, problems = convert(table, environ)
    assert problems == []
    return options


def test_an_empty_table_is_all_defaults() -> None:
    assert good({}) == Options()


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("count", 9, 9),
        ("ratio", 2, 2.0),
        ("on", True, True),
        ("mode", "manual", "manual"),
        ("mtu", 1300, 1300),
        ("ports", [1, 2], (1, 2)),
        ("pairs", [1, {"left": 2, "right": 3}], (Pair(1), Pair(2, 3))),
        ("groups", {"a b": {"left": 1}}, {"a b": Pair(1)}),
        ("labels", {"x": "y"}, {"x": "y"}),
        ("wait", "2s..3s", Duration("2s..3s")),
        ("wait", 2, Duration(2)),
        (
            "networks",
            ["10.0.0.0/8", "fd00::/8"],
            (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
        ),
        ("file", "a/b", "/etc/a/b"),
        ("file", "/a", "/a"),
        ("file", "", ""),
        ("files", ["a", "/b"], ("/etc/a", "/b")),
        ("run", [["a", "${B}"], "c ${D}"], (["a", "${B}"], "c ${D}")),
    ],
)
def test_values_become_what_the_type_says(key: str, raw: object, value: object) -> None:
    assert getattr(good({key: raw}), key) == value


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"count": 0}, "t.count: expected an integer >= 1"),
        ({"count": "x"}, "t.count: expected an integer, got a string"),
        ({"count": True}, "t.count: expected an integer, got a boolean"),
        ({"name": 3}, "t.name: expected a string, got an integer"),
        ({"mode": "atuo"}, 't.mode: expected "auto" or "manual", got "atuo", did you mean auto?'),
        ({"mtu": "x"}, 't.mtu: expected "auto" or an integer, got "x"'),
        ({"port": "x"}, 't.port: "x" does not fit: a port, as 4567'),
        ({"ports": [1, 0, 2]}, "t.ports[1]: expected an integer >= 1"),
        ({"ports": []}, "t.ports: expected at least 1 elements"),
        ({"ports": [1] * 4}, "t.ports: expected at most 3 elements"),
        ({"files": "a"}, 't.files: expected an array, got a string: write ["a"]'),
        ({"files": 1}, "t.files: expected an array, got an integer"),
        ({"pairs": [{"lft": 1, "left": 1}]}, "t.pairs[0].lft: unknown key, did you mean left?"),
        ({"pairs": [{}]}, "t.pairs[0].left: is required"),
        ({"pairs": [-1]}, "t.pairs[0].left: expected an integer >= 0"),
        ({"groups": {"a b": 1.5}}, 't.groups."a b".left: expected an integer, got a number'),
        ({"groups": 1}, "t.groups: expected a table, got an integer"),
        ({"labels": {"x": 1}}, "t.labels.x: expected a string, got an integer"),
        ({"wait": []}, "t.wait: expected a duration, got an array"),
        ({"wait": True}, "t.wait: expected a duration, got a boolean"),
        ({"networks": [1]}, "t.networks[0]: expected a string, got an integer"),
        (
            {"networks": ["10.0.0.1/8"]},
            't.networks[0]: "10.0.0.1/8" has bits beyond its length: write "10.0.0.0/8"',
        ),
        (
            {"networks": ["x"]},
            't.networks[0]: "x" is not a prefix: write one as "10.42.0.0/16" or "fd42::/48"',
        ),
        ({"run": [1]}, "t.run[0]: expected a string or an array, got an integer"),
        ({"run": [["a", 1]]}, "t.run[0][1]: expected a string, got an integer"),
        ({"cuont": 1}, "t.cuont: unknown key, did you mean count?"),
        ({"zzz": 1}, "t.zzz: unknown key"),
    ],
)
def test_problems_name_the_key_and_what_would_be_right(table: dict[str, Any], problem: str) -> None:
    assert convert(table)[1] == [problem]


def test_all_problems_are_found_and_the_rest_is_kept() -> None:
    options, problems = convert({"count": 0, "nmae": 1, "on": 1, "ratio": 3, "mode": "x"})
    assert len(problems) == 4
    assert options == Options(ratio=3)


def test_the_environment_is_expanded() -> None:
    assert good({"name": "a${X}"}, X="b").name == "ab"
    assert good({"files": ["${X:-y}"]}).files == ("/etc/y",)


def test_what_the_environment_holds_may_be_no_string() -> None:
    assert good({"count": "${N}"}, N="3").count == 3
    assert good({"on": "${N}"}, N="true").on is True
    assert good({"ports": "${N}"}, N="[1, 2]").ports == (1, 2)
    assert good({"name": "${N}"}, N="3").name == "3"


def test_an_unset_variable_is_a_problem_of_its_key() -> None:
    assert convert({"count": "${N}", "name": "${M:-x}"})[1] == [
        "t.count: the environment variable N is not set: set it, or write ${N:-default}"
    ]


def test_keys_with_something_of_the_environment_are_known() -> None:
    converter = Converter(Origin(), {"A": "b"})
    converter.table(Options, {"name": "${A}", "mode": "auto", "files": ["${A}"]}, "t")
    assert converter.from_environment == {"t.name", "t.files[0]"}


def test_secrets_are_not_told() -> None:
    for table in ({"key": "xy"}, {"pin": "xy"}):
        ((problem,), options) = convert(table)[::-1]
        assert "xy" not in problem
        assert options == Options()


def test_keys_that_others_convert_are_left_alone() -> None:
    converter = Converter(Origin(), {})
    assert converter.table(Pair, {"left": 1, "other": 2}, "t", also=["other"]) == Pair(1)
    assert converter.problems == []


def test_a_check_of_the_type_itself_may_name_its_key() -> None:
    converter = Converter(Origin(), {})
    converter.table(Checked, {"low": 10}, "t")
    converter.table(Checked, {"high": 101}, "u")
    assert [str(problem) for problem in converter.problems] == [
        "t.low: must not be more than high",
        "u: the range is too wide",
    ]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(["left", "right"]) | st.text(max_size=3)


def tables_and_arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)


VALUES = (
    SCALARS | tables_and_arrays(SCALARS) | tables_and_arrays(SCALARS | tables_and_arrays(SCALARS))
)


@given(st.dictionaries(st.sampled_from(Options.__struct_fields__), VALUES, max_size=6))
def test_any_table_converts_or_has_problems_of_one_line(table: dict[str, Any]) -> None:
    options, problems = convert(table)
    assert isinstance(options, Options)
    assert all(problem.startswith("t.") and problem.isprintable() for problem in problems)


class Hooks(msgspec.Struct, frozen=True):
    up: Annotated[tuple[str | tuple[str, ...], ...], Meta(extra={"commands": True})] = ()


def hooks(path: str, table: dict[str, Any], overrides: dict[str, str]) -> list[str]:
    converter = Converter(Origin(path, overrides), {})
    converter.table(Hooks, table, "plugins.tun")
    return [str(problem) for problem in converter.problems]


@pytest.mark.parametrize(
    ("mode", "problem"),
    [(0o600, ""), (0o644, ""), (0o664, "chmod go-w"), (0o602, "others can write the file")],
)
def test_commands_are_taken_from_a_file_that_others_cannot_write(
    tmp_path: Path, mode: int, problem: str
) -> None:
    path = tmp_path / "mesh.toml"
    path.touch()
    path.chmod(mode)
    found = hooks(str(path), {"up": ["true", ["ip", "rule"]]}, {})
    assert len(found) == bool(problem)
    assert problem in "".join(found)
    assert hooks(str(path), {"up": []}, {}) == []  # there is nothing to run
    # Who writes the command line may run anything anyway.
    assert hooks(str(path), {"up": ["true"]}, {"plugins.tun.up": "--set"}) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")
def test_commands_are_not_taken_from_a_file_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "mesh.toml"
    path.touch(mode=0o600)
    os.chown(path, 12345, -1)
    assert "belongs to another user" in hooks(str(path), {"up": ["true"]}, {})[0]
