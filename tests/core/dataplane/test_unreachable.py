"""What the host is told of packets that were dropped, and what it is not told."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from tests.core.dataplane.control import A4, B4, HERE4, HERE6, ROUTES, A, FakeControl, route
from tests.core.fakes import frame
from tunmesh.counters import Drops
from tunmesh.dataplane import Inside, Port
from tunmesh.testing import MemoryTun

VNET = 10
STAGED_FOR = 2.0


class Bench:
    """A node with one peer that cannot be reached."""

    def __init__(self) -> None:
        self.now = 100.0
        self.tun = MemoryTun()
        self.drops = Drops()
        broadcasts = [route("10.42.255.255", "broadcast"), route("10.42.0.255", "broadcast", A)]
        self.control = FakeControl(Port(A), routes=[*ROUTES, *broadcasts])
        self.inside = Inside(self.tun, self.control, self.drops, lambda: self.now)

    def send(self, *destinations: str) -> list[bytes]:
        """Let the host send packets; the errors that it gets."""
        self.tun.written.clear()
        for destination in destinations:
            source = HERE6 if ":" in destination else HERE4
            self.tun.inject(frame(source, destination, bytes(50)))
        self.inside.read()
        assert not any(any(written[:VNET]) for written in self.tun.written)
        return [written[VNET:] for written in self.tun.written]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("destination", "reason", "code"),
    [
        ("10.42.0.99", "no_route", 1),
        ("8.8.8.8", "outside_network", 0),
        (B4, "peer_gone", 1),  # there is a route, but no such peer
    ],
)
def test_ipv4(bench: Bench, destination: str, reason: str, code: int) -> None:
    (error,) = bench.send(destination)
    assert bench.drops.seen() == {reason: 1}
    read = IP(error)
    assert (read.src, read.dst) == (destination, HERE4)
    assert (read[ICMP].type, read[ICMP].code) == (3, code)


@pytest.mark.parametrize(
    ("destination", "code"), [("fd42::99", 3), ("2001:db8::1", 0), ("fe80::99", 3)]
)
def test_ipv6(bench: Bench, destination: str, code: int) -> None:
    (error,) = bench.send(destination)
    read = IPv6(error)
    assert (read.src, read.dst) == (destination, HERE6)
    assert (read[ICMPv6DestUnreach].type, read[ICMPv6DestUnreach].code) == (1, code)


def test_what_is_remembered_of_a_flow_is_answered_too(bench: Bench) -> None:
    assert len(bench.send(*3 * ["10.42.0.99"])) == 3
    assert len(bench.send("10.42.0.99", "10.42.0.98", "8.8.8.8")) == 3


@pytest.mark.parametrize(
    "destination",
    [
        HERE4,
        "239.9.9.9",
        "ff05::9",
        "255.255.255.255",  # switched off
        "10.42.255.255",  # nobody is there
    ],
)
def test_about_these_there_is_silence(bench: Bench, destination: str) -> None:
    assert bench.send(destination) == []
    assert sum(bench.drops.values()) == 1


def test_of_a_peer_that_does_not_come_the_host_is_told_in_the_end(bench: Bench) -> None:
    assert bench.send(A4) == []
    bench.now += STAGED_FOR + 0.1
    (error,) = bench.send(A4)
    assert (IP(error)[ICMP].type, IP(error)[ICMP].code) == (3, 1)
    assert bench.drops.seen() == {"peer_gone": 1}
    bench.now += STAGED_FOR + 0.1
    bench.tun.written.clear()
    bench.inside.flush(bench.control.ports[A])
    assert len(bench.tun.written) == 1


def test_broadcasts_to_such_a_peer_are_no_exception(bench: Bench) -> None:
    assert bench.send("10.42.0.255") == []
    bench.now += STAGED_FOR + 0.1
    assert bench.send("10.42.0.255") == []


def test_there_are_not_too_many(bench: Bench) -> None:
    errors = len(bench.send(*500 * ["10.42.0.99"]))
    assert 0 < errors <= 50
    assert bench.drops["no_route"] == 500
    assert bench.send("10.42.0.99") == []
    bench.now += 0.1
    assert len(bench.send(*500 * ["10.42.0.99"])) in {9, 10}
