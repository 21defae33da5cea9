"""Strangers, forgers and eavesdroppers: nothing but counters changes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.mesh.simulation import (
    SETTINGS,
    Simulation,
    address4,
    address6,
    drops,
    udp_frame,
)
from tunmesh.session.units import DATA, FRAME, HEADER, HEADER_SIZE, LENGTH_BITS, TAG_SIZE, item
from tunmesh.testing import Faults
from tunmesh.testing.network import format_endpoint
from tunmesh.testing.nodes import SECRET, SimulatedNode


def formed(number: int, **options: Any) -> Simulation:
    simulation = Simulation()
    simulation.start_all(number, **options)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(2.0)
    return simulation


def state(node: SimulatedNode) -> object:
    """What a stranger must not change: everything but counters and the times of probes."""
    mesh = node.mesh
    return (
        {
            peer.node_id: (
                peer.up,
                list(peer._endpoints),
                [(path.handle.endpoint, path.state) for path in peer.paths],
                peer.paths.active and peer.paths.active.handle.endpoint,
            )
            for peer in mesh.peers.values()
        },
        set(mesh.outside.keypairs),
        {node_id: record.seq for node_id, record in mesh.directory.records.items()},
        mesh.directory.own.seq,
        mesh.handshakes.half_open,
        sorted(node.transport._adopted),
        len(node.tun.written),
        len(node.events),
    )


class Stranger:
    """Somebody on the network who is no member, and what he gets back."""

    def __init__(self, simulation: Simulation, host: str = "stranger") -> None:
        self.endpoint = format_endpoint(host, 9)
        self.sent = self.got = 0
        self._network = simulation.network
        self._network.bind(self.endpoint, self)

    def send(self, destination: str, data: bytes) -> None:
        self.sent += len(data)
        self._network.send(self.endpoint, destination, data)

    def deliver(self, source: str, data: bytes, segment_size: int) -> None:
        self.got += len(data)


# ------------------------------------------------------------------- strangers


def test_random_bytes_get_no_answer_and_change_nothing() -> None:
    simulation = formed(3)
    node, stranger, rng = simulation.nodes["n1"], Stranger(simulation), random.Random(1)
    before = state(node)
    for _ in range(10_000):
        data = rng.randbytes(
            rng.choice((1, 8, 16, 17, 32, 33, 64, 96, 148, 204, rng.randrange(1500)))
        )
        kind = rng.randrange(8)
        stranger.send(node.endpoint, bytes((kind,)) + data)
        if rng.random() < 0.01:
            simulation.run(0.005)
    simulation.run(0.1)
    assert state(node) == before
    assert stranger.got == 0
    assert sum(drops(node).values()) == 10_000


def test_random_bytes_from_the_endpoint_of_a_peer_change_nothing() -> None:
    simulation = formed(3)
    node, peer, rng = simulation.nodes["n1"], simulation.nodes["n2"], random.Random(2)
    before = state(node)
    for _ in range(3000):
        kind = rng.randrange(8)
        data = bytes((kind,)) + rng.randbytes(rng.randrange(1500))
        simulation.network.send(peer.endpoint, node.endpoint, data)
    simulation.run(0.1)
    assert state(node) == before
    assert simulation.pings("n1", "n2")


def test_forged_units_for_a_keypair_change_nothing_but_counters() -> None:
    simulation = formed(3)
    node, stranger, rng = simulation.nodes["n1"], Stranger(simulation), random.Random(3)
    before = state(node)
    indices = list(node.mesh.outside.keypairs)
    for _ in range(3000):
        size = rng.choice((TAG_SIZE, 40, 100, 1400, 5000, 65_000))
        word = rng.randrange(1 << 43) << LENGTH_BITS | size
        header = HEADER.pack(DATA, rng.randrange(4), 1400, rng.choice(indices), word)
        stranger.send(node.endpoint, header + rng.randbytes(min(size, 1400)))
    simulation.run(0.1)
    assert state(node) == before
    assert stranger.got == 0
    assert simulation.pings("n1", "n2")


def test_two_meshes_with_other_secrets_or_names_never_mix() -> None:
    simulation = Simulation()
    simulation.start("a1", via=[])
    simulation.start("a2", via=["a1"])
    simulation.start("b1", via=["a1"], secret=SECRET[::-1])
    simulation.start("b2", via=["b1", "a2"], secret=SECRET[::-1])
    simulation.start("c1", via=["a1", "b1"], mesh_name="other")
    simulation.start("c2", via=["c1"], mesh_name="other")
    simulation.run(30.0)
    for name, node in simulation.nodes.items():
        other = name[0] + ("2" if name[1] == "1" else "1")
        assert node.up_peers() == node.known() == {other}
        assert len(node.mesh.peers) == 1


def test_a_node_with_another_secret_gets_no_answer() -> None:
    simulation = formed(2)
    seen: list[str] = []
    simulation.start("evil", via=["n1", "n2"], secret=SECRET[::-1])
    simulation.network.tap = lambda source, destination, data: seen.append(destination)
    simulation.run(30.0)
    assert simulation.nodes["evil"].endpoint not in seen
    assert simulation.nodes["evil"].mesh.peers == {}


# ----------------------------------------------------------------------- replay


@pytest.mark.parametrize("disguise", [False, True])
def test_replayed_datagrams_deliver_nothing_twice_and_change_nothing(disguise: bool) -> None:
    simulation = Simulation()
    network = simulation.network
    recorded: list[tuple[str, str, bytes]] = []
    network.tap = lambda source, destination, data: recorded.append((source, destination, data))
    simulation.start_all(3)
    simulation.until(simulation.meshed, 5.0)
    flows = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1", size=4000)]
    simulation.run(5.0)
    for flow in flows:
        flow.stop()
    simulation.run(20.0)
    network.tap = None
    before = {name: state(node) for name, node in simulation.nodes.items()}
    stranger = Stranger(simulation)
    answers = dict.fromkeys(("asked", "answered"), 0)

    def watch(source: str, destination: str, data: bytes) -> None:
        if destination == stranger.endpoint:
            answers["answered"] += len(data)

    network.tap = watch
    for source, destination, data in recorded:
        if disguise:  # as if it came from where it came from
            network.send(source, destination, data)
        else:
            answers["asked"] += len(data)
            network.send(stranger.endpoint, destination, data, segment_of(data))
        simulation.run(0.001)
    simulation.run(1.0)
    assert {name: state(node) for name, node in simulation.nodes.items()} == before
    assert answers["answered"] <= answers["asked"]
    for flow in flows:
        assert not flow.lost()
        assert set(flow.copies.values()) == {1}
    assert simulation.pings("n1", "n2")


def segment_of(data: bytes) -> int:
    """Bytes of each datagram of a recorded send."""
    if data[0] != DATA:
        return len(data)
    size: int = HEADER.unpack_from(data)[2] + HEADER_SIZE
    return min(len(data), size)


def test_handshakes_replayed_to_a_restarted_node_change_nothing() -> None:
    simulation = Simulation()
    network = simulation.network
    recorded: list[tuple[str, str, bytes]] = []
    network.tap = lambda source, destination, data: recorded.append((source, destination, data))
    simulation.start_all(2)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(1.0)
    network.tap = None
    before = simulation.nodes["n1"]
    for node in simulation.nodes.values():
        node.kill()
    simulation.run(5.0)
    node = simulation.start("n1", key=before.key, via=[])
    stranger = Stranger(simulation)
    untouched = state(node)
    for _, destination, data in recorded:
        if destination == node.endpoint:
            stranger.send(destination, data)
            simulation.run(0.1)
    assert state(node) == untouched
    assert stranger.got <= stranger.sent


def test_every_answer_to_a_replayed_datagram_is_no_larger_than_it() -> None:
    simulation = Simulation()
    recorded: list[tuple[str, bytes]] = []
    simulation.network.tap = lambda _, destination, data: recorded.append((destination, data))
    simulation.start_all(3)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(10.0)
    simulation.network.tap = None
    for number, (destination, data) in enumerate(recorded[:200]):
        stranger = Stranger(simulation, f"stranger{number}")
        stranger.send(destination, data)
        simulation.run(0.05)
        assert stranger.got <= stranger.sent


# -------------------------------------------------------------- inner addresses


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_with_another_nodes_source_is_dropped_as_spoofed(version: int) -> None:
    address = address4 if version == 4 else address6
    simulation = formed(3)
    liar, victim = simulation.nodes["n3"], simulation.nodes["n1"]
    port = liar.mesh.peers[victim.key.node_id].port
    before = len(victim.tun.written)
    sources = [address(2), address(1), address(77), "8.8.8.8" if version == 4 else "2001:db8::1"]
    for source in sources:
        frame = udp_frame(source, address(1), b"spoofed")
        liar.mesh.inside.send(port, item(FRAME, frame), 1, len(frame))
    simulation.run(0.1)
    assert drops(victim) == {"spoofed_source": len(sources)}
    assert len(victim.tun.written) == before
    frame = udp_frame(address(3), address(2), b"for somebody else")
    liar.mesh.inside.send(port, item(FRAME, frame), 1, len(frame))
    simulation.run(0.1)
    assert drops(victim)["misrouted"] == 1


def test_a_host_cannot_send_with_a_source_that_is_not_its_own() -> None:
    simulation = formed(2)
    node = simulation.nodes["n1"]
    node.tun.inject(udp_frame(address4(7), address4(2), b"spoofed"))
    simulation.run(0.1)
    assert drops(node) == {"unknown_source": 1}
    assert simulation.nodes["n2"].tun.written == []


def test_who_claims_the_address_of_a_live_node_gets_none_of_its_traffic() -> None:
    simulation = formed(3)
    simulation.run(10.0)
    flow = simulation.flow("n1", "n2")
    thief = simulation.start("thief", addresses=(f"{address4(2)}/16", "10.42.0.66/16"))
    simulation.run(60.0)
    flow.stop()
    simulation.run(0.1)
    assert not flow.lost()
    assert not any(b"tunmesh!" in frame for frame in thief.tun.written)
    for name in ("n1", "n2", "n3"):
        node = simulation.nodes[name]
        assert any(event == "address conflict" for event, _ in node.events)
        assert node.mesh.directory.claims.conflicts()
    thief.leave()
    simulation.run(30.0)
    assert not simulation.nodes["n1"].mesh.directory.claims.conflicts()


# --------------------------------------------------------- somebody injects


def test_forged_slices_cost_speed_but_not_the_connection() -> None:
    """An observer answers each unit of several slices with forged slices of the same unit.

    They arrive first, so every such unit is spoiled. The loss is seen, every datagram becomes a
    unit of its own, and there is nothing left to spoil.
    """
    simulation = formed(2)
    network = simulation.network
    one, other = simulation.nodes["n1"], simulation.nodes["n2"]
    network.faults = Faults(delay=0.01, jitter=0.001)  # each datagram arrives for itself
    network.set_faults("evil", "n2", Faults(delay=0.0))
    evil = format_endpoint("evil", 1)

    def inject(source: str, destination: str, data: bytes) -> None:
        if source != one.endpoint or destination != other.endpoint or data[0] != DATA:
            return
        _, _, size, receiver, word = HEADER.unpack_from(data)
        count = -(-(word & ((1 << LENGTH_BITS) - 1)) // size)
        if count > 1:
            forged = HEADER.pack(DATA, 0, size, receiver, word) + bytes(size)
            network.send(evil, destination, forged)

    network.tap = inject
    port = one.mesh.peers[other.key.node_id].port
    large = simulation.flow("n1", "n2", interval=0.005, size=9000)
    simulation.until(lambda: 0 < port.bulk_limit <= port.slice_size, 20.0)
    large.stop()
    # What a sender with segmentation offload hands over as one superpacket goes in small units.
    small = [simulation.flow("n1", "n2", interval=0.005, size=1400) for _ in range(3)]
    simulation.run(20.0)
    for flow in small:
        flow.stop()
    simulation.run(1.0)
    assert not any(flow.lost() for flow in small)
    assert not any("down" in event for event, _ in one.events + other.events)
    assert other.mesh.drops["auth_failed"] > 0


# ------------------------------------------------------------------ exhaustion


def test_a_flood_of_replayed_requests_leaves_tables_bounded_and_peers_served() -> None:
    simulation = formed(2)
    recorded: list[bytes] = []
    simulation.network.tap = lambda source, destination, data: recorded.append(data)
    simulation.start("n3", settings=replace(SETTINGS, eager_peers=64))
    simulation.until(simulation.meshed, 5.0)
    simulation.network.tap = None
    requests = [data for data in recorded if data[0] == 1]
    node = simulation.nodes["n1"]
    for number in range(5000):
        source = format_endpoint(f"h{number}", 9)
        simulation.network.send(source, node.endpoint, requests[number % len(requests)])
        if number % 100 == 0:
            simulation.run(0.01)
    simulation.start("n4")
    simulation.until(simulation.meshed, 5.0)
    assert node.mesh.handshakes.half_open <= 16
    assert len(node.transport._adopted) <= 4
