"""Multicast in a mesh in memory: everybody knows who is in which group, and only they get it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from tests.mesh.simulation import SETTINGS, VNET, Simulation, address4, address6, udp_frame
from tests.multicast_igmp.packets import igmp3, mld2
from tunmesh.plugin import BadPacket
from tunmesh.testing import Faults
from tunmesh.testing.nodes import SimulatedNode
from tunmesh_multicast_igmp.igmp import decode_igmp_untrusted
from tunmesh_multicast_igmp.messages import Address, Query, Record, RecordType
from tunmesh_multicast_igmp.mld import decode_mld_untrusted
from tunmesh_multicast_igmp.options import Options
from tunmesh_multicast_igmp.policy import IgmpPolicy
from tunmesh_multicast_igmp.rules import is_source_specific

POLICIES = {"igmp": (IgmpPolicy, Options())}
ANY: tuple[bool, frozenset[Address]] = (True, frozenset())
#: Mode and sources of each group that a host has joined.
Joined = dict[Address, tuple[bool, frozenset[Address]]]


class Host:
    """The IP stack behind a simulated device, as far as groups go: it reports and answers.

    Attributes:
        joined: Its groups.
    """

    def __init__(self, simulation: Simulation, node: SimulatedNode, rng: random.Random) -> None:
        self.joined: Joined = {}
        self.node = node
        self._network = simulation.network
        self._address = address4(simulation.numbers[node.name])
        self._rng = rng
        node.tun.refuses = self._take  # sees every frame, and refuses none

    def set(self, group: Address, wanted: tuple[bool, frozenset[Address]] | None) -> None:
        """Join a group, leave it, or change its sources; told twice, as hosts do."""
        if wanted is None:
            self.joined.pop(group, None)
            change = Record(RecordType.TO_IN, group)
        else:
            self.joined[group] = wanted
            kind = RecordType.TO_EX if wanted[0] else RecordType.TO_IN
            change = Record(kind, group, tuple(wanted[1]))
        self._report(change)
        again = self._network.now() + self._rng.random()
        self._network.clock.post(again, self._again, group, change)

    def _again(self, group: Address, change: Record) -> None:
        wanted = self.joined.get(group, (False, frozenset[Address]()))
        if (wanted[0], set(wanted[1])) == (change.kind == RecordType.TO_EX, set(change.sources)):
            self._report(change)

    def _take(self, frame: bytes) -> bool:
        packet = frame[10:]
        decode = decode_igmp_untrusted if packet[0] >> 4 == 4 else decode_mld_untrusted
        try:
            message = decode(packet)
        except BadPacket:
            return False
        if isinstance(message, Query):
            later = self._network.now() + self._rng.uniform(0, 0.4)
            self._network.clock.post(later, self._answer, message.group, message.source.version)
        return False

    def _answer(self, asked: Address | None, version: int) -> None:
        for group, (exclude, sources) in list(self.joined.items()):
            if group.version == version and asked in {None, group}:
                kind = RecordType.IS_EX if exclude else RecordType.IS_IN
                self._report(Record(kind, group, tuple(sources)))

    def _report(self, record: Record) -> None:
        if self.node.running:
            four = isinstance(record.group, IPv4Address)
            packet = igmp3(record, source=self._address) if four else mld2(record)
            self.node.tun.inject(VNET + packet)


def known(node: SimulatedNode) -> dict[str, Joined]:
    """What a node holds of each node's groups, by node id."""
    found: dict[str, Joined] = {}
    for member in node.policies["igmp"].group_members():
        wanted = member.exclude, frozenset[Address](member.sources)
        found.setdefault(member.node_id, {})[member.group] = wanted
    return found


def wanted_by(hosts: Mapping[str, Host]) -> dict[str, Joined]:
    """What hosts want, by node id."""
    return {h.node.key.node_id: h.joined for h in hosts.values() if h.joined and h.node.running}


def hosts_of(simulation: Simulation, seed: int) -> dict[str, Host]:
    rng = random.Random(seed)
    return {name: Host(simulation, node, rng) for name, node in simulation.nodes.items()}


def deliveries(
    simulation: Simulation, hosts: Mapping[str, Host], sender: str, group: Address
) -> set[str]:
    """Send one packet to a group; the names of the nodes that got it, each once."""
    address = address4 if group.version == 4 else address6
    text = f"{sender} to {group} at {simulation.network.now()}".encode()
    source = address(simulation.numbers[sender])
    before = {name: len(host.node.tun.written) for name, host in hosts.items()}
    hosts[sender].node.tun.inject(udp_frame(source, str(group), text))
    simulation.run(2.0)
    found = []
    for name, host in hosts.items():
        found += [name for frame in host.node.tun.written[before[name] :] if text in frame]
    assert len(found) == len(set(found)), "a packet came twice"
    return set(found)


def takers(
    simulation: Simulation, hosts: Mapping[str, Host], sender: str, group: Address
) -> set[str]:
    """The names of the nodes that should get a packet."""
    address = address4 if group.version == 4 else address6
    source = ip_address(address(simulation.numbers[sender]))
    found = set()
    for name, host in hosts.items():
        exclude, sources = host.joined.get(group, (False, frozenset[Address]()))
        if is_source_specific(group) and exclude:
            continue
        if name != sender and (source in sources) != exclude:
            found.add(name)
    return found


def test_a_group_reaches_its_members_and_nobody_else() -> None:
    simulation = Simulation()
    simulation.start_all(5, policies=POLICIES)
    simulation.until(simulation.meshed, 3.0)
    hosts = hosts_of(simulation, 1)
    for group in (ip_address("239.1.2.3"), ip_address("ff15::1234")):
        for name in ("n2", "n3", "n4"):
            hosts[name].set(group, ANY)
        simulation.run(0.3)
        assert deliveries(simulation, hosts, "n1", group) == {"n2", "n3", "n4"}
        assert deliveries(simulation, hosts, "n2", group) == {"n3", "n4"}
        hosts["n3"].set(group, None)
        simulation.run(0.3)
        assert deliveries(simulation, hosts, "n1", group) == {"n2", "n4"}


def test_only_the_wanted_sources_are_carried() -> None:
    simulation = Simulation()
    simulation.start_all(4, policies=POLICIES)
    simulation.until(simulation.meshed, 3.0)
    hosts = hosts_of(simulation, 1)
    group, first = ip_address("232.1.1.1"), frozenset({ip_address(address4(1))})
    other = ip_address("239.7.7.7")
    hosts["n3"].set(group, (False, first))
    hosts["n4"].set(group, ANY)  # means nothing in the source-specific range
    hosts["n3"].set(other, (True, first))
    simulation.run(0.3)
    assert deliveries(simulation, hosts, "n1", group) == {"n3"}
    assert deliveries(simulation, hosts, "n2", group) == set()
    assert deliveries(simulation, hosts, "n1", other) == set()
    assert deliveries(simulation, hosts, "n2", other) == {"n3"}


def test_a_restarted_node_asks_its_host_and_is_a_member_again() -> None:
    simulation = Simulation()
    simulation.start_all(3, policies=POLICIES)
    simulation.until(simulation.meshed, 3.0)
    hosts = hosts_of(simulation, 1)
    group = ip_address("239.1.2.3")
    hosts["n3"].set(group, ANY)
    simulation.run(0.5)
    joined = hosts["n3"].joined
    simulation.nodes["n3"].kill()
    simulation.run(0.5)
    node = simulation.start("n3", policies=POLICIES)
    hosts["n3"] = host = Host(simulation, node, random.Random(2))
    host.joined = joined
    # Its device is a new one, whose queries of the start came before the host was there.
    host._answer(None, 4)
    passed = 0.0
    while deliveries(simulation, hosts, "n1", group) != {"n3"}:
        passed += 2.0
        assert passed <= 4.0


@pytest.mark.timeout(600)
def test_200_nodes_agree_on_100_groups_after_random_joins_and_leaves_with_loss() -> None:
    simulation = Simulation(5, faults=Faults(delay=0.02, jitter=0.02, loss=0.05))
    # Few sessions a node, as a mesh of thousands has: it is their number that takes the time here.
    few = replace(SETTINGS, eager_peers=8)
    simulation.start_all(200, gap=0.005, policies=POLICIES, settings=few)
    everybody = set(simulation.nodes)
    simulation.until(
        lambda: all(n.known() >= everybody - {n.name} for n in simulation.nodes.values()),
        60.0,
        step=0.5,
    )
    hosts = hosts_of(simulation, 3)
    rng = random.Random(4)
    groups = [ip_address(f"239.1.0.{n}") for n in range(60)]
    groups += [ip_address(f"ff15::{n:x}") for n in range(1, 31)]
    groups += [ip_address(f"232.1.1.{n}") for n in range(10)]
    for _ in range(5):
        for host in rng.sample(list(hosts.values()), 15):
            # Many at a time: it is how often records change that takes the time here.
            for group in rng.choices(groups, k=20):
                address = address4 if group.version == 4 else address6
                sources = frozenset[Address](
                    ip_address(address(rng.randrange(1, 201))) for _ in range(rng.randrange(1, 3))
                )
                host.set(group, rng.choice([None, ANY, (False, sources), (True, sources)]))
        simulation.run(0.3)
    model = wanted_by(hosts)
    quiet = simulation.until(
        lambda: all(known(node) == model for node in simulation.nodes.values()), 60.0, step=0.5
    )
    print(f"equal after {quiet:.1f} s of quiet")  # noqa: T201
    simulation.network.faults = Faults(delay=0.02)
    for group in rng.sample(groups, 5):
        sender = rng.choice(list(hosts))
        expected = takers(simulation, hosts, sender, group)
        assert deliveries(simulation, hosts, sender, group) == expected
