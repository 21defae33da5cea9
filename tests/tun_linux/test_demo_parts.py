"""What the demo computes and prints; no namespaces."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from tunmesh_tun_linux.demo import command
from tunmesh_tun_linux.demo.meter import Flow
from tunmesh_tun_linux.demo.nodes import default_plugins
from tunmesh_tun_linux.demo.ping import checksum
from tunmesh_tun_linux.demo.screen import (
    PlainScreen,
    RichScreen,
    Screen,
    Table,
    layout,
    make_screen,
)
from tunmesh_tun_linux.demo.story import bit_rate, mesh_table, round_trip


@given(st.binary().filter(lambda data: len(data) % 2 == 0))
def test_checksum(data: bytes) -> None:
    assert checksum(data) == scapy_checksum(data)


def status(*up: str, connecting: tuple[str, ...] = ()) -> dict[str, Any]:
    peers = [{"name": name, "state": "up"} for name in up]
    return {"peers": peers + [{"name": name, "state": "connecting"} for name in connecting]}


def test_mesh_table_before_anything_answers() -> None:
    table, connected = mesh_table(["a", "b"], [None, None])
    assert connected == 0
    assert table == Table(["", "a", "b"], [["a", "-", "starting"], ["b", "starting", "-"]])


def test_a_pair_is_connected_when_both_sides_say_so() -> None:
    table, connected = mesh_table(["a", "b"], [status("b"), status(connecting=("a",))])
    assert connected == 0
    assert table.rows == [["a", "-", "up"], ["b", "connecting", "-"]]
    assert mesh_table(["a", "b"], [status("b"), status("a")])[1] == 1


def test_a_large_mesh_is_shown_in_two_columns() -> None:
    names = [f"node-{number}" for number in range(1, 10)]
    statuses = [status(*(set(names) - {name})) for name in names]
    table, connected = mesh_table(names, statuses)
    assert connected == 36
    assert table.rows[8] == ["node-9", "8 of 8"]


def test_round_trip() -> None:
    assert round_trip([0.001, 0.002]) == "1.50 ms"
    assert round_trip([None, 0.002, None]) == "2.00 ms, 2 of 3 lost"
    assert round_trip([None]) == "no reply"


def test_rates() -> None:
    flow = Flow(bytes=1_000_000, packets=1000, seconds=2.0)
    assert (flow.bits_per_second, flow.packets_per_second) == (4e6, 500.0)
    assert Flow(0, 0, 0.0).bits_per_second == Flow(0, 0, 0.0).packets_per_second == 0.0
    assert (bit_rate(12_345_678), bit_rate(2.5e9)) == ("12.3 Mbit/s", "2.50 Gbit/s")


def test_the_plugins_that_are_installed() -> None:
    assert default_plugins()[0] == "tun_linux"


def test_layout() -> None:
    assert layout(Table(["a", "long header"], [["long cell", "b"]])) == [
        "a          long header",
        "long cell  b",
    ]


def _break(screen: Screen) -> None:
    with screen.step("second") as step:
        step.update("half way")
        raise OSError(errno.EIO, "broken")


@pytest.mark.parametrize("screen_type", [PlainScreen, RichScreen])
def test_steps_on_both_screens(
    screen_type: type[Screen], capsys: pytest.CaptureFixture[str]
) -> None:
    screen = screen_type()
    screen.headline("a headline [with brackets]")
    with screen.step("first") as step:
        step.update("not yet")
        step.update("done [at last]", Table(["from", "state"], [["a", "up"], ["b", "-"]]))
    with pytest.raises(OSError, match="broken"):
        _break(screen)
    screen.note("note [x]")
    output = capsys.readouterr().out
    for text in ("headline [with", "first", "done [at last]", "state", "second", "half", "[x]"):
        assert text in output
    assert output.index("first") < output.index("second")


def test_plain_screen_marks_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen()
    with screen.step("good"):
        pass
    with pytest.raises(KeyboardInterrupt), screen.step("bad"):
        raise KeyboardInterrupt
    screen.failure("a reason")
    out, err = capsys.readouterr()
    assert [line.split()[0:2] for line in out.splitlines()] == [["ok", "good"], ["FAIL", "bad"]]
    assert err == "tunmesh demo: a reason\n"


def test_plain_where_there_is_no_terminal() -> None:
    assert isinstance(make_screen(), PlainScreen)


@pytest.mark.parametrize("nodes", [1, 33])
def test_too_few_or_too_many_nodes(nodes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(nodes=nodes, keep=False, plugins=None) == 2
    assert capsys.readouterr().err.endswith(f"--nodes {nodes}: a demo has 2 to 32 nodes\n")
