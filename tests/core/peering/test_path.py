"""One path: what its probes and their answers tell."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.fakes import RecordingTransport
from tunmesh.errors import BadPacket
from tunmesh.interfaces.transport import PathHandle
from tunmesh.peering.path import Path, probe_reply_untrusted


def handle(max_datagram: int = 1472) -> PathHandle:
    return PathHandle(RecordingTransport(), "test://there:1", source=b"", max_datagram=max_datagram)


@pytest.fixture
def path() -> Path:
    return Path(handle(), 100.0)


def reply(
    token: bytes, index: int = 1, expected: int = 0, got: int = 0, *, overrun: bool = False
) -> bytes:
    return probe_reply_untrusted(token, index, expected, got, overrun=overrun)


def test_at_first(path: Path) -> None:
    assert (path.state, path.rtt, path.unanswered) == ("trying", None, 0)
    assert (path.next_probe, path.since) == (100.0, 100.0)
    assert path.answered_at == path.challenged_at == float("-inf")
    assert repr(path) == "<Path test://there:1 trying>"


@pytest.mark.parametrize(
    ("datagram", "slice_size"), [(1472, 1456), (508, 492), (65_551, 65_535), (200_000, 65_535)]
)
def test_slice_size_is_what_the_header_leaves_and_can_say(datagram: int, slice_size: int) -> None:
    assert Path(handle(datagram), 0.0).slice_size == slice_size


def test_layout_of_an_answer() -> None:
    body = reply(b"8 bytes.", 0x01020304, 5, 6, overrun=True)
    assert body == b"8 bytes." + b"\1\2\3\4" + bytes(7) + b"\5" + bytes(7) + b"\6" + b"\1"
    assert reply(b"8 bytes.")[-1] == 0


def test_round_trip_time_is_smoothed(path: Path) -> None:
    assert path.answered(reply(path.probe(100.0)), 100.08)
    assert path.rtt == pytest.approx(0.08)
    assert path.answered(reply(path.probe(101.0)), 101.16)
    assert path.rtt == pytest.approx(0.08 + 0.08 / 8)
    assert path.answered_at == 101.16


def test_only_its_own_probes_are_answered_and_only_once(path: Path) -> None:
    token = path.probe(100.0)
    assert not path.answered(reply(bytes(8)), 100.1)
    assert path.rtt is None
    assert path.answered(reply(token), 100.1)
    assert not path.answered(reply(token), 100.2)


def test_tokens_cannot_be_guessed(path: Path) -> None:
    tokens = {path.probe(100.0) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {8}


def test_unanswered_probes_are_counted_until_one_is_answered(path: Path) -> None:
    tokens = []
    for number in range(5):
        tokens.append(path.probe(100.0 + number))
        assert path.unanswered == number
        assert path.suspect == (number >= 3)
    assert path.answered(reply(tokens[1]), 105.0)
    assert (path.unanswered, path.suspect) == (0, False)
    assert path.rtt == pytest.approx(4.0)
    path.probe(106.0)
    assert path.unanswered == 0


def test_probes_under_way_are_bounded(path: Path) -> None:
    tokens = [path.probe(100.0 + number) for number in range(17)]
    assert not path.answered(reply(tokens[0]), 117.0)
    assert path.answered(reply(tokens[1]), 117.0)


def test_a_new_state_forgets_the_probes_under_way(path: Path) -> None:
    token = path.probe(100.0)
    path.probe(100.5)
    path.become("trying", 101.0)
    assert (path.since, path.unanswered) == (100.0, 1)
    path.become("up", 101.0)
    assert (path.state, path.since, path.unanswered) == ("up", 101.0, 0)
    assert not path.answered(reply(token), 101.1)


def test_answers_tell_of_loss(path: Path) -> None:
    for number, (expected, got) in enumerate(((0, 0), (1000, 900))):
        assert path.answered(reply(path.probe(number), 7, expected, got), number + 0.1)
    assert path.loss.loss == pytest.approx(0.1)
    assert path.answered(reply(path.probe(9.0), 7, 2000, 1000, overrun=True), 9.1)
    assert path.loss.loss == pytest.approx(0.1)


@given(st.binary(max_size=60))
def test_random_bytes_raise_only_bad_packet(body: bytes) -> None:
    path = Path(handle(), 0.0)
    if len(body) >= 8:  # a probe may be made larger, to see whether such datagrams pass
        assert reply(body)[:8] == body[:8]
        assert len(reply(body)) == struct.calcsize("!8sIQQB")
    else:
        with pytest.raises(BadPacket):
            reply(body)
    if len(body) == struct.calcsize("!8sIQQB"):
        assert not path.answered(body, 1.0)
    else:
        with pytest.raises(BadPacket):
            path.answered(body, 1.0)
    assert path.rtt is None
