"""Queues and frames: what happens when the network is slower than the node."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from tests.transport_https.nodes import started, until
from tunmesh.testing import VirtualClock
from tunmesh_transport_https.pipe import Pipe
from tunmesh_transport_https.stream import MAX_DATAGRAM, Queue, Stream


def test_the_oldest_makes_room() -> None:
    queue = Queue(10)
    for text in (b"1111", b"2222", b"3333"):
        queue.put(text, 0.0)
    assert [queue.get(0.0) for _ in range(3)] == [b"2222", b"3333", None]
    assert queue.expired == 1
    assert not queue


def test_what_waited_too_long_is_dropped() -> None:
    queue = Queue(100)
    queue.put(b"old", 0.0)
    queue.put(b"new", 0.15)
    assert queue.get(0.21) == b"new"
    assert queue.expired == 1


@given(st.lists(st.tuples(st.binary(max_size=20), st.floats(0, 0.1)), max_size=30))
def test_a_queue_never_holds_more_than_its_limit_and_loses_nothing_silently(
    puts: list[tuple[bytes, float]],
) -> None:
    queue, now = Queue(50), 0.0
    for message, step in puts:
        now += step
        queue.put(message, now)
        assert queue._size <= 50
    left = []
    while (message_or_none := queue.get(now)) is not None:
        left.append(message_or_none)
    assert left == [message for message, _ in puts][len(puts) - len(left) :]
    assert len(left) + queue.expired == len(puts)


class Ends:
    """A stream without TLS, and the other end's protocol on a plain socket."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.there = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        listener.close()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        self.clock = VirtualClock()
        self.counts: Counter[str] = Counter()
        self.delivered: list[bytes] = []
        self.reasons: list[str] = []
        self.blocked = 0
        self.peer = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self.stream = Stream(
            Pipe(accepted),
            Protocol(Side.SERVER, state=OPEN, max_size=MAX_DATAGRAM),
            deliver=lambda data: self.delivered.append(bytes(data)),
            ended=self.reasons.append,
            blocked=self._count,
            clock=self.clock.now,
            counts=self.counts,
        )

    def _count(self) -> None:
        self.blocked += 1

    def read_all(self) -> list[bytes]:
        """What the other end has received, until nothing more is sent."""
        self.there.settimeout(0.05)
        found: list[bytes] = []
        flushed = False
        while True:
            try:
                data = self.there.recv(1 << 20)
            except TimeoutError:
                if flushed:
                    return found
                flushed = self.stream.flush()
                continue
            self.peer.receive_data(data)
            found += [bytes(e.data) for e in self.peer.events_received() if isinstance(e, Frame)]

    def close(self) -> None:
        self.stream.pipe.closed = True  # no event loop runs that could be told
        self.stream.pipe.socket.close()
        self.there.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.close()


def fill(ends: Ends) -> int:
    """Send large messages until the connection takes no more; returns how many."""
    sent = 0
    while not ends.blocked:
        ends.stream.send([b"L" * 60_000])
        sent += 1
    return sent


def test_small_messages_overtake_large_ones_that_wait(ends: Ends) -> None:
    before = fill(ends)
    for number in range(4):
        ends.stream.send([bytes([number]) * 50_000])
    ends.stream.send([b"small", b"too"])
    received = ends.read_all()[before:]
    assert received[:2] == [b"small", b"too"]
    assert received[2:] == [bytes([number]) * 50_000 for number in range(4)]
    assert ends.counts["expired"] == 0


def test_large_ones_are_not_kept_waiting_for_ever_by_small_ones(ends: Ends) -> None:
    before = fill(ends)
    ends.stream.send([b"X" * 50_000])
    for _ in range(150):
        ends.stream.send([bytes(600)])
    received = ends.read_all()[before:]
    assert 1 <= received.index(b"X" * 50_000) <= 30


def test_what_waits_is_bounded_and_the_oldest_goes_first(ends: Ends) -> None:
    before = fill(ends)
    room = (1 << 22) // 60_000
    for number in range(100):
        ends.stream.send([bytes([number]) * 60_000])
    assert ends.counts["expired"] == 100 - room
    received = ends.read_all()[before:]
    assert received == [bytes([number]) * 60_000 for number in range(100 - room, 100)]


def test_what_waited_too_long_is_not_sent_when_the_network_recovers(ends: Ends) -> None:
    before = fill(ends)
    ends.stream.send([b"old" * 1000, b"old"])
    ends.clock.advance(0.3)
    ends.stream.send([b"new"])
    assert ends.read_all()[before:] == [b"new"]
    assert ends.counts["expired"] == 2


def unsent_limit(ends: Ends) -> int:
    tcp_notsent_lowat = 25
    return ends.stream.pipe.socket.getsockopt(socket.IPPROTO_TCP, tcp_notsent_lowat)


@pytest.mark.parametrize(
    ("seconds", "least", "most"), [(2.0, 1, 1 << 15), (0.03, 1 << 18, 1 << 21)]
)
def test_the_kernel_is_given_what_it_sends_in_some_milliseconds(
    ends: Ends, seconds: float, least: int, most: int
) -> None:
    fill(ends)
    for _ in range(60):
        ends.stream.send([bytes(60_000)])
    ends.there.settimeout(0.02)
    for _ in range(100):
        with contextlib.suppress(TimeoutError):
            ends.there.recv(1 << 20)
        ends.stream.flush()
    ends.clock.advance(seconds)  # in which some 3 MB went
    ends.stream.flush()
    assert least < unsent_limit(ends) < most


def test_a_message_in_pieces_is_joined(ends: Ends) -> None:
    ends.peer.send_binary(b"one ", fin=False)
    ends.peer.send_ping(b"?")
    ends.peer.send_continuation(b"message", fin=True)
    ends.peer.send_binary(b"")
    ends.stream.feed(b"".join(ends.peer.data_to_send()))
    assert ends.delivered == [b"one message"]
    data = ends.there.recv(100)
    ends.peer.receive_data(data)
    (pong,) = ends.peer.events_received()
    assert isinstance(pong, Frame)
    assert pong.opcode is Opcode.PONG


def test_who_asks_and_does_not_read_fills_no_memory(ends: Ends) -> None:
    fill(ends)
    for _ in range(1000):
        ends.peer.send_ping(b"x" * 100)
    ends.stream.feed(b"".join(ends.peer.data_to_send()))
    assert not ends.stream._protocol.writes


@pytest.mark.parametrize(
    "data",
    [
        Frame(Opcode.BINARY, bytes(MAX_DATAGRAM + 1)).serialize(mask=True),
        Frame(Opcode.BINARY, b"unmasked").serialize(mask=False),
        Frame(Opcode.CONT, b"of nothing").serialize(mask=True),
        Frame(Opcode.CLOSE, b"").serialize(mask=True),
        b"\xff" * 20,
    ],
    ids=["too large", "unmasked", "continuation", "close", "nonsense"],
)
async def test_what_is_no_message_ends_the_stream_and_no_more(data: bytes) -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        await a.answered_by(b, there)
        b.transport.adopt(b.inbound.received[0].handle)
        assert there.stream is not None
        there.stream.pipe.write(data)
        await until(lambda: b.inbound.closed)
        await until(lambda: there.stream is None)
        a.clock.advance(1.0)
        await a.answered_by(b, there)
