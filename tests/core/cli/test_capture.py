"""Packets as a node tells of them, shown or written."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.utils import RawPcapNgReader

from tests.core.fakes import frame, tcp_superframe
from tunmesh.admin.records import Batch, Record, encode_batch
from tunmesh.cli import capture as command
from tunmesh.cli.capture import packets_of

Run = Callable[..., Any]
SMALL = frame("10.42.1.1", "10.42.1.2", bytes(100))


def record(data: bytes = SMALL, comment: str = "to b", length: int = 0) -> Record:
    return Record("inside", 1_000_000_007, False, comment, length or len(data), data)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the node tells: batches; and what it was asked, at the end."""
    messages: list[Any] = []

    def encoded(queue: list[Any]) -> Iterator[bytes]:
        for batch in queue:
            if isinstance(batch, BaseException):
                raise batch
            yield encode_batch(batch) if isinstance(batch, Batch) else batch

    @contextmanager
    def follow(_path: Path, name: str, **arguments: Any) -> Iterator[Iterator[bytes]]:
        queue = messages.copy()
        messages.append((name, arguments))
        yield encoded(queue)

    monkeypatch.setattr(command, "follow", follow)
    return messages


def capture(run: Run, *arguments: str) -> Any:
    return run("capture", "--socket", "x", *arguments)


def test_text(run: Run, told: list[Any]) -> None:
    told.append(Batch([record(comment="to b\x1b"), record(SMALL[:40], length=130)], {}))
    code, out, err = capture(run)
    assert code == 0
    first, second = out.splitlines()
    assert "inside   IPv4 10.42.1.1 > 10.42.1.2" in first
    assert "\x1b" not in first
    assert ", of 120" in second
    assert err == "2 packets captured, 0 lost for want of room\n"
    assert told[-1][1]["points"] == ("inside", "outside", "dropped")


def test_the_end_is_the_count(run: Run, told: list[Any]) -> None:
    told += [Batch([record()] * 5, {}), Batch([record()] * 5, {"inside": 3})]
    code, out, err = capture(run, "--count", "7", "--point", "inside", "--snaplen", "60")
    assert (code, len(out.splitlines())) == (0, 7)
    assert err == "7 packets captured, 3 lost for want of room\n"
    assert told[-1][1] == {"points": ("inside",), "snap": 60, "until": float("inf")}


def test_ctrl_c_is_an_end_like_any_other(run: Run, told: list[Any], tmp_path: Path) -> None:
    told += [Batch([record()], {}), KeyboardInterrupt()]
    path = tmp_path / "x.pcapng"
    assert capture(run, "-w", str(path)).code == 0
    with RawPcapNgReader(str(path)) as reader:
        assert len(list(reader)) == 1


def test_a_file_is_its_owners_alone(run: Run, told: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    told.append(Batch([record()], {}))
    assert capture(run, "-w", str(path), "--snaplen", "64").out == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with RawPcapNgReader(str(path)) as reader:
        ((packet, found),) = list(reader)
    assert (packet, found.wirelen) == (SMALL[10:74], len(SMALL) - 10)
    assert found.comments == [b"to b"]


def test_superpackets_are_shown_as_their_segments(
    run: Run, told: list[Any], tmp_path: Path
) -> None:
    large = tcp_superframe("10.42.1.1", "10.42.1.2", bytes(5000), 1400)
    packets = packets_of(record(large))
    assert len(packets) == 4
    for data, length, comment in packets:
        assert comment == "to b, segment of a superpacket of 4"
        assert length == len(data)
        given = IP(data)
        whole = IP(data)
        del whole[IP].chksum, whole[TCP].chksum
        again = IP(bytes(whole))
        assert (given[IP].chksum, given[TCP].chksum) == (again[IP].chksum, again[TCP].chksum)
    told.append(Batch([record(large)], {}))
    assert capture(run, "--count", "3").err.startswith("3 packets captured")


def test_what_is_no_good_frame_is_shown_as_it_is() -> None:
    bad = bytes(10) + bytes(30)
    ((data, length, comment),) = packets_of(record(bad, "bad_packet: from b"))
    assert (data, length) == (bytes(30), 30)
    assert comment.startswith("bad_packet: from b (")
    assert packets_of(record(b"\0" * 4))[0][0] == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", "0"), "0 is not a number from 1 on"),
        (("--count", "x"), "x is not a number from 1 on"),
        (("--snaplen", "19"), "19 is not a number from 20 on, as far as 65535"),
        (("--point", "upside"), "invalid choice: 'upside'"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = capture(run, *arguments)
    assert code == 2
    assert message in err


def test_a_file_that_cannot_be_written(run: Run, told: list[Any], tmp_path: Path) -> None:
    code, _, err = capture(run, "-w", str(tmp_path / "none" / "x"))
    assert code == 1
    assert err.endswith("No such file or directory\n")


def test_an_answer_of_another_version(run: Run, told: list[Any]) -> None:
    told.append(b"\xc1")
    code, _, err = capture(run)
    assert code == 1
    assert "another version" in err
