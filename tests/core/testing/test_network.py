from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import EndpointError, TransportError
from tunmesh.testing import (
    FakeTransportContext,
    Faults,
    MemoryNetwork,
    MemoryTransport,
    NatKind,
    RecordingInbound,
)


class Host:
    """A transport in the network, and what it delivered."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        context = FakeTransportContext(clock=network.clock, name="memory", node_name=name)
        self.inbound: RecordingInbound = context.inbound
        self.endpoint = f"memory://{name}:4567"
        self.transport = MemoryTransport(context, network, self.endpoint)
        self.transport.open()

    def send(self, endpoint: str, *datagrams: bytes) -> None:
        handle = self.transport.connect(endpoint)
        for datagram in datagrams:
            self.transport.send(handle, [datagram], len(datagram))

    def sources(self) -> list[str]:
        return [entry.handle.endpoint for entry in self.inbound.received]


def hosts(network: MemoryNetwork, names: str) -> list[Host]:
    return [Host(network, name) for name in names]


def test_datagrams_arrive_after_their_delay() -> None:
    network = MemoryNetwork(faults=Faults(delay=0.5))
    a, b = hosts(network, "ab")
    start = network.now()
    a.send(b.endpoint, b"hello")
    network.run_until(start + 0.4)
    assert b.inbound.received == []
    network.run_until(start + 0.5)
    assert b.inbound.datagrams() == [b"hello"]
    assert b.sources() == [a.endpoint]
    assert network.statistics["delivered"] == network.statistics["sent"] == 1


@given(st.binary(max_size=200), st.integers(1, 50), st.booleans())
def test_the_bounds_of_datagrams_are_kept(data: bytes, segment_size: int, orderly: bool) -> None:
    network = MemoryNetwork(faults=Faults(duplicate=0.0 if orderly else 1.0))
    a, b = hosts(network, "ab")
    half = len(data) // 2
    a.transport.send(a.transport.connect(b.endpoint), [data[:half], data[half:]], segment_size)
    network.clock.advance(1)
    expected = [data[i : i + segment_size] for i in range(0, len(data), segment_size)]
    received = b.inbound.datagrams()
    if orderly:
        assert received == expected
        assert len(b.inbound.received) == bool(data)  # as coalesced by a kernel
    else:
        assert received[::2] == received[1::2] == expected
        assert network.statistics["duplicated"] == len(expected)


def run_with_faults(seed: int) -> tuple[list[bytes], dict[str, int]]:
    network = MemoryNetwork(seed, faults=Faults(jitter=0.01, loss=0.2, duplicate=0.1))
    a, b = hosts(network, "ab")
    for number in range(1000):
        network.call_at(
            network.now() + number / 1000, a.send, b.endpoint, number.to_bytes(2, "big")
        )
    network.clock.advance(10)
    return b.inbound.datagrams(), network.statistics


def test_faults_are_seeded_and_as_frequent_as_asked_for() -> None:
    received, statistics = run_with_faults(1)
    assert run_with_faults(1) == (received, statistics)
    assert run_with_faults(2)[0] != received
    assert 150 < statistics["lost"] < 250
    assert 50 < statistics["duplicated"] < 120
    assert len(received) == 1000 - statistics["lost"] + statistics["duplicated"]
    assert received != sorted(received)  # jitter beyond the spacing reorders


def test_faults_belong_to_one_direction() -> None:
    network = MemoryNetwork()
    a, b = hosts(network, "ab")
    network.set_faults("a", "b", Faults(loss=1.0))
    a.send(b.endpoint, b"x")
    b.send(a.endpoint, b"y")
    network.clock.advance(1)
    assert (a.inbound.datagrams(), b.inbound.datagrams()) == ([b"y"], [])
    network.set_faults("a", "b", None)
    a.send(b.endpoint, b"z")
    network.clock.advance(1)
    assert b.inbound.datagrams() == [b"z"]


def test_large_datagrams_vanish() -> None:
    network = MemoryNetwork(faults=Faults(mtu=1000))
    a, b = hosts(network, "ab")
    a.send(b.endpoint, b"x" * 1001)
    a.transport.send(a.transport.connect(b.endpoint), [b"y" * 2500], 1000)
    network.clock.advance(1)
    assert [len(datagram) for datagram in b.inbound.datagrams()] == [1000, 1000, 500]
    assert network.statistics["too_big"] == 1


def test_a_partition_separates_groups() -> None:
    network = MemoryNetwork()
    a, b, c, d = hosts(network, "abcd")
    network.partition("ab")  # c and d are the rest
    a.send(b.endpoint, b"ab")
    a.send(c.endpoint, b"ac")
    c.send(d.endpoint, b"cd")
    network.clock.advance(1)
    assert (b.inbound.datagrams(), c.inbound.datagrams()) == ([b"ab"], [])
    assert d.inbound.datagrams() == [b"cd"]
    assert network.statistics["partitioned"] == 1
    network.heal()
    a.send(c.endpoint, b"ac")
    network.clock.advance(1)
    assert c.inbound.datagrams() == [b"ac"]


def test_what_is_on_the_way_to_a_closed_transport_is_lost() -> None:
    network = MemoryNetwork()
    a, b = hosts(network, "ab")
    a.send(b.endpoint, b"x")
    b.transport.close()
    network.clock.advance(1)
    assert network.statistics["unreachable"] == 1
    b.transport.open()
    a.send(b.endpoint, b"y")
    network.clock.advance(1)
    assert b.inbound.datagrams() == [b"y"]


def test_anybody_may_send_and_a_tap_sees_it() -> None:
    network = MemoryNetwork()
    (a,) = hosts(network, "a")
    seen: list[tuple[str, str, bytes]] = []
    network.tap = lambda *send: seen.append(send)
    network.send("memory://nobody:1", a.endpoint, b"forged")
    network.clock.advance(1)
    assert a.sources() == ["memory://nobody:1"]
    assert seen == [("memory://nobody:1", a.endpoint, b"forged")]


@pytest.mark.parametrize("endpoint", ["", "memory://", "memory://a", "udp://a:1", "memory://a:x"])
def test_other_endpoints_are_refused(endpoint: str) -> None:
    network = MemoryNetwork()
    (a,) = hosts(network, "a")
    with pytest.raises(EndpointError):
        a.transport.connect(endpoint)


@pytest.mark.parametrize("endpoint", ["", "memory://", "memory://a", "memory://a:x", "://a:1"])
def test_only_endpoints_are_bound(endpoint: str) -> None:
    network = MemoryNetwork()
    (a,) = hosts(network, "a")
    with pytest.raises(EndpointError):
        network.bind(endpoint, a.transport)


def test_an_endpoint_is_taken_once() -> None:
    network = MemoryNetwork()
    (a,) = hosts(network, "a")
    with pytest.raises(TransportError, match="already in use"):
        a.transport.open()


NATS: dict[NatKind, list[bool]] = {
    # Who may send to a mapping made for (friend, port 1): the endpoint, the host, anybody.
    "full_cone": [True, True, True],
    "restricted": [True, True, False],
    "port_restricted": [True, False, False],
    "symmetric": [True, False, False],
}


@pytest.mark.parametrize("kind", NATS)
def test_a_nat_lets_in_whom_its_kind_allows(kind: NatKind) -> None:
    network = MemoryNetwork()
    (a,) = hosts(network, "a")
    friend = Host(network, "friend")
    network.add_nat("nat", ["a"], kind)
    a.send(friend.endpoint, b"hello")
    network.clock.advance(1)
    (mapped,) = friend.sources()
    assert mapped.startswith("memory://nat:")
    for source in (friend.endpoint, "memory://friend:9", "memory://other:9"):
        network.send(source, mapped, source.encode())
    network.send("memory://other:9", a.endpoint, b"private endpoint")
    network.send("memory://other:9", "memory://nat:9", b"no mapping")
    network.clock.advance(1)
    assert len(a.inbound.received) == sum(NATS[kind])
    assert network.statistics["filtered"] == 4 - sum(NATS[kind])
    assert network.statistics["unreachable"] == 1


def test_only_a_symmetric_nat_shows_each_remote_another_port() -> None:
    for kind in NATS:
        network = MemoryNetwork()
        a, b, c = hosts(network, "abc")
        network.add_nat("nat", ["a"], kind)
        for other in (b, c, b):
            a.send(other.endpoint, b"x")
        network.clock.advance(1)
        assert b.sources()[0] == b.sources()[1]
        assert (b.sources()[0] == c.sources()[0]) is (kind != "symmetric")


def test_hosts_behind_one_nat_reach_each_other_directly() -> None:
    network = MemoryNetwork()
    a, b = hosts(network, "ab")
    network.add_nat("nat", ["a", "b"])
    a.send(b.endpoint, b"x")
    network.clock.advance(1)
    assert b.sources() == [a.endpoint]


def test_a_nat_forgets() -> None:
    network = MemoryNetwork()
    a, b = hosts(network, "ab")
    nat = network.add_nat("nat", ["a"], timeout=30)
    seen = []
    for forget in (False, False, True, False):
        if forget:
            nat.forget()
        a.send(b.endpoint, b"x")
        network.clock.advance(20)
        seen.append(b.sources()[-1])
    assert seen[0] == seen[1] != seen[2] == seen[3]
    network.clock.advance(11)  # 31 seconds after the last datagram from inside
    b.send(seen[3], b"late")
    network.clock.advance(1)
    assert a.inbound.received == []
    a.send(b.endpoint, b"x")
    network.clock.advance(1)
    assert b.sources()[-1] not in seen
