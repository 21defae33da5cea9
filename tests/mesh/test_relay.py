"""Nodes that cannot reach each other, and those that carry for them."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.fakes import tcp_superframe
from tests.mesh.simulation import SETTINGS, Flow, Simulation, address4, drops
from tunmesh.peering.peer import Peer
from tunmesh.session.units import RELAY, RELAYED
from tunmesh.testing import Faults
from tunmesh.testing.nodes import SimulatedNode

BLOCKED = Faults(loss=1.0)
UNWILLING = replace(SETTINGS, relay=False)


def block(simulation: Simulation, *pairs: str) -> None:
    """Let nothing pass between two nodes, ``n1 n2``, in either direction."""
    for pair in pairs:
        for one, other in permutations(pair.split()):
            simulation.network.set_faults(one, other, BLOCKED)


def unblock(simulation: Simulation, *pairs: str) -> None:
    for pair in pairs:
        for one, other in permutations(pair.split()):
            simulation.network.set_faults(one, other, None)


def formed(number: int, *blocked: str, **options: Any) -> Simulation:
    simulation = Simulation()
    block(simulation, *blocked)
    simulation.start_all(number, **options)
    simulation.until(simulation.meshed, 10.0)
    simulation.run(5.0)
    return simulation


def peer(simulation: Simulation, name: str, other: str) -> Peer:
    return simulation.nodes[name].mesh.peers[simulation.nodes[other].key.node_id]


def via(simulation: Simulation, name: str, other: str) -> str:
    """Through which node another one is reached; empty if directly, ``-`` if not at all."""
    active = peer(simulation, name, other).paths.active
    if active is None:
        return "-"
    if not active.handle.endpoint.startswith("relay://"):
        return ""
    relay = active.handle.endpoint.split("/")[2]
    return next(n for n, node in simulation.nodes.items() if node.key.node_id == relay)


def two_way(simulation: Simulation, one: str, other: str) -> list[Flow]:
    return [simulation.flow(one, other), simulation.flow(other, one)]


def last_lost(flows: list[Flow]) -> int:
    return max(max(flow.lost(), default=-1) for flow in flows)


def test_a_third_node_carries_within_5_s_and_the_direct_path_is_back_within_35_s() -> None:
    simulation = formed(3)
    flows = two_way(simulation, "n2", "n3")
    simulation.run(5.0)
    begin = flows[0].sent
    block(simulation, "n2 n3")
    simulation.run(30.0)
    assert via(simulation, "n2", "n3") == via(simulation, "n3", "n2") == "n1"
    unblock(simulation, "n2 n3")
    simulation.until(lambda: not via(simulation, "n2", "n3") + via(simulation, "n3", "n2"), 35.0)
    simulation.run(60.0)
    for flow in flows:
        flow.stop()
    simulation.run(0.1)
    assert last_lost(flows) < begin + 5.0 / 0.05
    assert not any("peer down" in event for event, _ in simulation.nodes["n2"].events)
    assert simulation.nodes["n1"].mesh.relaying.forwarded > 500
    # What is not needed any longer is let go.
    assert [path.handle.transport.name for path in peer(simulation, "n2", "n3").paths] == ["memory"]


def test_nodes_that_never_met_meet_through_a_third() -> None:
    simulation = Simulation()
    block(simulation, "n2 n3", "n2 n4", "n3 n4")
    simulation.start_all(4)
    simulation.until(simulation.meshed, 10.0)
    assert simulation.all_ping()
    assert via(simulation, "n2", "n3") == via(simulation, "n4", "n2") == "n1"
    simulation.run(400.0)  # sessions are renewed on the way
    assert simulation.all_ping()


def test_the_relay_sees_ciphertext_only() -> None:
    simulation = formed(3)
    block(simulation, "n2 n3")
    simulation.run(10.0)
    seen: list[bytes] = []
    simulation.network.tap = lambda _source, _destination, data: seen.append(data)
    relay = simulation.nodes["n1"].mesh
    items: list[bytes] = []
    take = relay.relaying.take

    def watch(sender: str, handle: Any, kind: int, body: bytes) -> None:
        items.append(body)
        take(sender, handle, kind, body)

    relay.relaying.take = watch  # type: ignore[method-assign]
    flow = simulation.flow("n2", "n3")
    simulation.run(5.0)
    assert len(flow.arrived()) > 90
    assert len(items) > 90
    assert not any(b"tunmesh!" in data for data in (*seen, *items))
    assert simulation.nodes["n1"].tun.written == []


def test_when_the_relay_dies_another_one_carries() -> None:
    simulation = formed(4)
    flows = two_way(simulation, "n2", "n3")
    block(simulation, "n2 n3")
    simulation.run(10.0)
    first = via(simulation, "n2", "n3")
    assert first in ("n1", "n4")
    begin = flows[0].sent
    simulation.nodes[first].kill()
    simulation.run(15.0)
    for flow in flows:
        flow.stop()
    simulation.run(0.1)
    assert via(simulation, "n2", "n3") == ({"n1", "n4"} - {first}).pop()
    assert last_lost(flows) < begin + 5.0 / 0.05


def test_a_relay_that_says_goodbye_is_left_at_once() -> None:
    simulation = formed(4)
    flows = two_way(simulation, "n2", "n3")
    block(simulation, "n2 n3")
    simulation.run(10.0)
    begin = flows[0].sent
    simulation.nodes[via(simulation, "n2", "n3")].leave()
    simulation.run(10.0)
    for flow in flows:
        flow.stop()
    simulation.run(0.1)
    assert last_lost(flows) < begin + 3.0 / 0.05


def test_the_nearer_relay_is_used() -> None:
    simulation = Simulation()
    for name in ("n1", "n2", "n3"):
        for one, other in permutations(("n4", name)):
            simulation.network.set_faults(one, other, Faults(delay=0.05))
    for number in range(1, 5):
        simulation.start(f"n{number}")
    simulation.until(simulation.meshed, 5.0)
    simulation.run(5.0)
    simulation.flow("n2", "n3")
    block(simulation, "n2 n3")
    simulation.run(10.0)
    assert via(simulation, "n2", "n3") == "n1"


def test_who_is_not_willing_does_not_relay() -> None:
    simulation = Simulation()
    simulation.start("n1", settings=UNWILLING)
    simulation.start("n2")
    simulation.start("n3")
    simulation.until(simulation.meshed, 5.0)
    block(simulation, "n2 n3")
    simulation.run(20.0)
    assert not simulation.pings("n2", "n3")
    assert via(simulation, "n2", "n3") == "-"
    assert simulation.nodes["n1"].mesh.relaying.forwarded == 0
    simulation.start("n4")
    simulation.until(lambda: simulation.pings("n2", "n3"), 10.0)
    assert via(simulation, "n2", "n3") == "n4"


def test_who_is_not_willing_refuses_even_if_asked() -> None:
    simulation = formed(3, settings=UNWILLING)
    node, asked = simulation.nodes["n2"], peer(simulation, "n2", "n1")
    body = bytes.fromhex(simulation.nodes["n3"].key.node_id) + struct.pack("!H", 100) + bytes(250)
    send(node, asked, RELAY, body)
    simulation.run(0.1)
    assert drops(simulation.nodes["n1"])["misrouted"] == 3
    assert simulation.nodes["n1"].mesh.relaying.forwarded == 0


def send(node: SimulatedNode, to: Peer, kind: int, body: bytes) -> None:
    """Send an item to a peer directly."""
    to._voice.item(to.port.handle, kind, body)  # type: ignore[arg-type]  # it is up
    assert node.running


def test_chains_of_relays_are_not_made() -> None:
    """n1 - n2 - n3 - n4: the ends have no node in common, and nothing goes round."""
    simulation = Simulation()
    block(simulation, "n1 n3", "n1 n4", "n2 n4")
    simulation.start("n1")
    for number in (2, 3, 4):
        simulation.start(f"n{number}", via=[f"n{number - 1}"])
    simulation.run(30.0)
    assert via(simulation, "n1", "n3") == "n2"
    assert via(simulation, "n2", "n4") == "n3"
    assert not simulation.pings("n1", "n4")
    before = simulation.network.statistics["sent"]
    simulation.run(10.0)
    assert simulation.network.statistics["sent"] - before < 2000


def test_a_relay_forwards_to_whom_it_reaches_and_counts_the_rest() -> None:
    simulation = formed(3)
    node, asked = simulation.nodes["n2"], peer(simulation, "n2", "n1")
    relay = simulation.nodes["n1"]
    head = struct.pack("!H", 64)
    unknown, own = bytes(16), bytes.fromhex(node.key.node_id)
    for target, reason in ((unknown, "peer_gone"), (own, "misrouted")):
        send(node, asked, RELAY, target + head + bytes(128))
        simulation.run(0.1)
        assert drops(relay)[reason] == 2
    # To the relay itself: it has no session with itself.
    send(node, asked, RELAY, bytes.fromhex(relay.key.node_id) + head + bytes(64))
    simulation.run(0.1)
    assert drops(relay)["peer_gone"] == 3


@pytest.mark.parametrize("kind", [RELAY, RELAYED])
def test_malformed_items_are_counted_and_hurt_nobody(kind: int) -> None:
    simulation = formed(3)
    node, asked = simulation.nodes["n2"], peer(simulation, "n2", "n1")
    target = bytes.fromhex(simulation.nodes["n3"].key.node_id)
    bodies = [b"", target, target + b"\0\0", target + b"\0\0" + bytes(99), target + b"\0\1xyz"]
    for body in bodies:
        send(node, asked, kind, body)
    simulation.run(0.1)
    assert drops(simulation.nodes["n1"])["bad_packet"] == len(bodies)
    assert simulation.all_ping()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.sampled_from([RELAY, RELAYED]))
def test_random_items_hurt_nobody(bodies: list[bytes], kind: int) -> None:
    simulation = formed(3)
    node, asked = simulation.nodes["n2"], peer(simulation, "n2", "n1")
    target = bytes.fromhex(simulation.nodes["n3"].key.node_id)
    for body in bodies:
        send(node, asked, kind, body)
        send(node, asked, kind, target + b"\0\x40" + body)
    simulation.run(0.5)
    assert simulation.all_ping()


def test_a_node_cannot_have_more_relayed_than_its_share() -> None:
    simulation = formed(3)
    node, asked = simulation.nodes["n2"], peer(simulation, "n2", "n1")
    target = bytes.fromhex(simulation.nodes["n3"].key.node_id)
    for _ in range(400):
        send(node, asked, RELAY, target + struct.pack("!H", 1000) + bytes(60_000))
    simulation.run(0.1)
    relay = simulation.nodes["n1"]
    assert relay.mesh.relaying.forwarded_bytes < 20e6
    assert drops(relay)["rate_limited"] > 1000
    simulation.run(1.0)
    assert simulation.all_ping()


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_superpackets_pass_a_relay(loss: float) -> None:
    simulation = formed(3)
    block(simulation, "n2 n3")
    simulation.run(10.0)
    simulation.network.faults = Faults(loss=loss)
    source, target = (address4(simulation.numbers[name]) for name in ("n2", "n3"))
    frame = tcp_superframe(source, target, bytes(range(256)) * 250, 1348)
    written = simulation.nodes["n3"].tun.written
    before = len(written)
    for _ in range(200):
        simulation.nodes["n2"].tun.inject(frame)
        simulation.run(0.02)
    got = sum(len(each) - 50 for each in written[before:])
    if not loss:
        assert written[before:] == [frame] * 200
    else:  # units become small where datagrams get lost
        assert got > 0.5 * 200 * 64_000


def test_two_relays_may_carry_one_direction_each() -> None:
    simulation = formed(4)
    block(simulation, "n2 n3")
    simulation.run(10.0)
    there, back = peer(simulation, "n2", "n3").paths, peer(simulation, "n3", "n2").paths
    flows = two_way(simulation, "n2", "n3")
    for paths, name in ((there, "n1"), (back, "n4")):
        relay = simulation.nodes[name].key.node_id
        other = next(p for p in paths if relay not in p.handle.endpoint.split("/"))
        paths.dead(other, simulation.network.now(), "test")
    simulation.run(5.0)
    for flow in flows:
        flow.stop()
    simulation.run(0.1)
    assert all(len(flow.lost()) < 5 for flow in flows)
