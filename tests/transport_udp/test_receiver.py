"""Reading by runs and by batches: real sockets on loopback, where nothing is joined on the way."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from tunmesh.interfaces import PathHandle
from tunmesh.testing import VirtualClock
from tunmesh_transport_udp.batch import Batch
from tunmesh_transport_udp.endpoints import SocketAddress, parse_literal, socket_address
from tunmesh_transport_udp.listener import Listener
from tunmesh_transport_udp.receiver import Receiver

SIZE = 1472


class Bench:
    """A receiver, and sockets to send to it from."""

    def __init__(self, host: str) -> None:
        self.listener = Listener(parse_literal(host, 0))
        self.family = self.listener.family
        self.senders = [socket.socket(self.family, socket.SOCK_DGRAM) for _ in range(2)]
        for sender in self.senders:
            sender.bind((host, 0))
        self.clock = VirtualClock()
        self.got: list[tuple[str, bytes, int]] = []
        self.calls = 0
        self.counts: Counter[str] = Counter()
        self.receiver = Receiver(
            self.listener, {}, self.stranger, self.deliver, self.counts, self.clock.now
        )

    def stranger(self, _listener: Listener, address: SocketAddress) -> PathHandle:
        return PathHandle(None, str(address[1]), source=b"", max_datagram=0)  # type: ignore[arg-type]

    def deliver(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        self.calls += 1
        for begin in range(0, len(data), segment_size):
            datagram = bytes(data[begin : begin + segment_size])
            self.got.append((handle.endpoint, datagram, segment_size))

    def send(self, datagrams: list[bytes], sender: int = 0) -> None:
        for datagram in datagrams:
            self.senders[sender].sendto(datagram, self.listener.address)

    def read(self) -> list[bytes]:
        for _ in range(64):
            self.receiver.readable()
        got = [datagram for _, datagram, _ in self.got]
        self.got.clear()
        return got

    def settle(self) -> None:
        """Make it use batches: nothing is ever joined on loopback."""
        for _ in range(8):
            self.send([bytes(SIZE)] * 16)
            self.receiver.readable()
        assert len(self.read()) == 8 * 16
        assert self.counts["receive_batched"] == 1


@pytest.fixture(params=["127.0.0.1", "::1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A receiver of either family."""
    made = Bench(request.param)
    yield made
    made.listener.close()
    for sender in made.senders:
        sender.close()


def test_small_datagrams_are_never_batched(bench: Bench) -> None:
    for _ in range(20):
        bench.send([b"small"] * 16)
        bench.receiver.readable()
    assert bench.read() == [b"small"] * 320
    assert not bench.counts


def test_batches_are_used_when_nothing_is_joined(bench: Bench) -> None:
    bench.settle()
    datagrams = [random.Random(n).randbytes(SIZE) for n in range(100)]
    bench.send(datagrams)
    bench.calls = 0
    assert bench.read() == datagrams
    assert bench.calls == 2, "two calls of recvmmsg, a run each"


def test_shorter_datagrams_end_runs(bench: Bench) -> None:
    bench.settle()
    rng = random.Random(1)
    datagrams = [rng.randbytes(rng.choice((SIZE, SIZE, SIZE, 1, 700))) for _ in range(200)]
    bench.send(datagrams)
    assert bench.read() == datagrams


def test_senders_are_told_apart(bench: Bench) -> None:
    bench.settle()
    bench.send([b"a" * SIZE] * 3, sender=0)
    bench.send([b"b" * SIZE] * 2, sender=1)
    bench.send([b"c" * SIZE] * 4, sender=0)
    for _ in range(4):
        bench.receiver.readable()
    ports = [str(sender.getsockname()[1]) for sender in bench.senders]
    by_sender = [(endpoint, datagram[:1]) for endpoint, datagram, _ in bench.got]
    assert by_sender == [(ports[0], b"a")] * 3 + [(ports[1], b"b")] * 2 + [(ports[0], b"c")] * 4


def test_empty_datagrams_are_nothing(bench: Bench) -> None:
    bench.settle()
    bench.send([b"", b"x" * SIZE, b""])
    assert bench.read() == [b"x" * SIZE]


def test_a_few_larger_datagrams_are_taken_too(bench: Bench) -> None:
    bench.settle()
    rng = random.Random(1)
    sizes = [SIZE] * 20 + [SIZE + 1, SIZE, SIZE + 2000, SIZE + 2048, 5, SIZE + 1] + [SIZE] * 20
    datagrams = [rng.randbytes(size) for size in sizes]
    bench.send(datagrams)
    assert bench.read() == datagrams
    assert bench.counts["receive_batched"] == 1


@pytest.mark.parametrize(("size", "count"), [(SIZE + 1, 9), (SIZE + 2049, 1)])
def test_when_larger_datagrams_are_usual_batches_end(bench: Bench, size: int, count: int) -> None:
    bench.settle()
    bench.send([bytes(size)] * count)
    cut = min(size, SIZE + 2048)  # one loss, at the change of the path's size
    assert bench.read() == [bytes(cut)] * count
    bench.send([bytes(size)] * 3)
    assert bench.read() == [bytes(size)] * 3


def test_joining_is_tried_again_now_and_then(bench: Bench) -> None:
    bench.settle()
    bench.clock.advance(6.0)
    bench.send([bytes(SIZE)])
    assert bench.read() == [bytes(SIZE)]
    bench.send([bytes(SIZE)] * 100)  # long enough to see that nothing is joined, still
    assert bench.read() == [bytes(SIZE)] * 100
    assert bench.counts["receive_batched"] == 2


def test_an_idle_batch_reads_nothing() -> None:
    with Listener(parse_literal("127.0.0.1", 0)).socket as sock, pytest.raises(BlockingIOError):
        Batch(SIZE).read(sock)


def test_addresses_are_those_of_the_socket_module() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as receiver,
            socket.socket(family, socket.SOCK_DGRAM) as sender,
        ):
            receiver.setblocking(False)
            receiver.bind((host, 0))
            sender.bind((host, 0))
            sender.sendto(b"x" * 10, receiver.getsockname())
            batch = Batch(10)
            ((raw, data, size),) = batch.runs(batch.read(receiver))
            assert socket_address(raw) == sender.getsockname()
            assert (bytes(data), size) == (b"x" * 10, 10)
