"""Addresses that nodes take by themselves, in whole meshes in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_interface, ip_network

import pytest

from tests.mesh.simulation import SETTINGS, Simulation
from tunmesh.identity.keys import NodeKey
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.membership.auto import AutoAddresses
from tunmesh.testing.nodes import SimulatedNode

#: With few sessions, as in large meshes: most nodes hear of most others at second hand.
SMALL = replace(
    SETTINGS, networks=(ip_network("10.7.7.0/24"), ip_network("fd42::/48")), eager_peers=8
)


def auto(
    length: int | None = None, kept: Sequence[Interface] = ()
) -> Callable[[str, Sequence[Network]], AutoAddresses]:
    return partial(_make, length, tuple(kept))


def _make(
    length: int | None, kept: Sequence[Interface], node_id: str, networks: Sequence[Network]
) -> AutoAddresses:
    return AutoAddresses(node_id, networks, length, kept=kept)


def addresses_of(node: SimulatedNode) -> tuple[Interface, ...]:
    assert node.auto is not None
    return node.auto.addresses


def settled(simulation: Simulation) -> bool:
    """Whether every node knows every other, and all agree that each owns what it took."""
    running = [simulation.nodes[name] for name in simulation.running()]
    return all(len(node.known()) == len(running) - 1 for node in running) and all(
        observer.mesh.directory.claims.owner(address.ip) == node.key.node_id
        for observer in running
        for node in running
        for address in addresses_of(node)
    )


def start(
    simulation: Simulation, number: int, gap: float, kept: dict[str, Sequence[Interface]]
) -> None:
    for index in range(1, number + 1):
        name = f"n{index}"
        simulation.start(
            name,
            addresses=(),
            auto=auto(kept=kept.get(name, ())),
            settings=SMALL,
            key=NodeKey.from_seed(index.to_bytes(32, "big")),
        )
        simulation.run(gap)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("gap", [0.0, 0.08])
def test_fifty_nodes_in_a_24_all_differ_and_so_they_do_after_a_restart(gap: float) -> None:
    kept: dict[str, Sequence[Interface]] = {}
    found = []
    for _ in range(2):
        simulation = Simulation()
        start(simulation, 50, gap, kept)
        simulation.until(lambda: settled(simulation), 30, step=0.1)  # noqa: B023  # called at once
        kept = {name: addresses_of(node) for name, node in simulation.nodes.items()}
        taken = [address.ip for addresses in kept.values() for address in addresses]
        assert len(taken) == len(set(taken)) == 100
        assert all(
            address in SMALL.networks[0] or address in SMALL.networks[1] for address in taken
        )
        found.append(kept)
    assert found[0] == found[1]


def test_the_one_that_came_later_moves_and_the_first_one_never_does() -> None:
    simulation = Simulation()
    wanted = ip_interface("10.7.7.20/24")
    one = simulation.start("one", addresses=(), auto=auto(kept=[wanted]), settings=SMALL)
    simulation.run(5)
    two = simulation.start("two", addresses=(), auto=auto(kept=[wanted]), settings=SMALL)
    simulation.until(lambda: addresses_of(two)[0] != wanted, 2)
    simulation.until(lambda: settled(simulation), 3)
    assert addresses_of(one)[0] == wanted


def test_it_gives_way_to_an_address_that_was_configured_before() -> None:
    simulation = Simulation()
    simulation.start("one", addresses=("10.7.7.20/24",), settings=SMALL)
    simulation.run(5)
    kept = [ip_interface("10.7.7.20/24")]
    two = simulation.start("two", addresses=(), auto=auto(kept=kept), settings=SMALL)
    simulation.until(lambda: addresses_of(two) != tuple(kept), 3)
    assert simulation.nodes["one"].mesh.directory.own.addresses == ("10.7.7.20/24",)


def test_it_keeps_its_address_whoever_claims_it_later() -> None:
    simulation = Simulation()
    kept = [ip_interface("10.7.7.20/24")]
    one = simulation.start("one", addresses=(), auto=auto(kept=kept), settings=SMALL)
    simulation.start("witness", addresses=("10.7.7.9/24",), settings=SMALL)
    simulation.run(5)
    two = simulation.start("two", addresses=("10.7.7.20/24",), settings=SMALL)
    simulation.run(60)
    assert addresses_of(one)[0] == kept[0]
    for node in simulation.nodes.values():  # both sides know, and everybody else does
        claims = node.mesh.directory.claims
        assert claims.owner(kept[0].ip) == one.key.node_id
        (conflict,) = claims.conflicts()
        assert (conflict.holder, conflict.claimant) == (one.key.node_id, two.key.node_id)
        assert any(name == "address conflict" for name, _ in node.events)
    two.leave()
    simulation.run(1)
    assert not any(
        simulation.nodes[name].mesh.directory.claims.conflicts() for name in simulation.running()
    )


def test_two_parts_of_a_mesh_that_meet_settle_their_conflicts() -> None:
    simulation = Simulation()
    kept = [ip_interface("10.7.7.20/24")]
    for name, via in (("a", []), ("b", ["a"]), ("c", []), ("d", ["c"])):
        options = {"auto": auto(kept=kept)} if name in "ac" else {"auto": auto()}
        simulation.start(name, via=via, addresses=(), settings=SMALL, **options)
        simulation.run(3)
    assert addresses_of(simulation.nodes["a"])[0] == addresses_of(simulation.nodes["c"])[0]
    simulation.start("bridge", via=["a", "c"], addresses=(), auto=auto(), settings=SMALL)
    simulation.until(lambda: settled(simulation), 10)
    assert addresses_of(simulation.nodes["a"])[0] == kept[0]


def test_a_network_that_is_full_gives_no_address_until_one_is_free() -> None:
    tiny = replace(SETTINGS, networks=(ip_network("10.7.7.0/30"),))
    simulation = Simulation()
    for name in "abc":
        simulation.start(name, addresses=(), auto=auto(), settings=tiny)
        simulation.run(5)
    taken = {name: addresses_of(node) for name, node in simulation.nodes.items()}
    assert [len(taken[name]) for name in "abc"] == [1, 1, 0]
    simulation.nodes["a"].leave()
    simulation.until(lambda: addresses_of(simulation.nodes["c"]) == taken["a"], 2)
