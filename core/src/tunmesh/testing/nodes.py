"""Whole nodes on a network in memory: hundreds in one process, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, cast

from tunmesh.contexts import PolicyNodeContext
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.interfaces.policy import RoutingPolicy
from tunmesh.interfaces.transport import Transport
from tunmesh.interfaces.tun import Network
from tunmesh.membership.auto import AutoAddresses
from tunmesh.membership.records import RecordVerifier
from tunmesh.mesh import Mesh, MeshSettings
from tunmesh.peering.path import Path
from tunmesh.peering.peer import Peer
from tunmesh.testing.context import FakeReactor, FakeTransportContext
from tunmesh.testing.memory import MemoryTransport, MemoryTun
from tunmesh.testing.network import MemoryNetwork, format_endpoint

if TYPE_CHECKING:
    from tunmesh.contexts import Host
    from tunmesh.interfaces import Reactor

SECRET = b"a secret of the simulated mesh, 1234567890"
NETWORKS = ("10.0.0.0/8", "fd00::/16")
_OFFLOADS = frozenset({"csum", "tso4", "tso6", "uso4", "uso6"})


class _Host:
    """What a policy's context needs of a node, as far as there is one without an event loop."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.now = network.now
        self.reactor: Reactor = FakeReactor()


class SimulatedNode:
    """One node: a `Mesh` with a device and a transport in memory.

    Args:
        network: Where it lives.
        name: Its name, and its host in the network.
        addresses: Its overlay addresses.
        bootstrap: Endpoints by which it joins.
        secret: The mesh secret.
        mesh_name: The mesh's name.
        settings: Other than the defaults.
        key: Its key; derived from the name by default, so that runs repeat.
        seed: Of its random decisions.
        verifier: Shared by the nodes of one process, so that each record is verified once.
        interval: Seconds between rounds of the bootstrap group.
        lookup: The endpoint that a URL stands for, as the DNS would tell; itself by default.
        subnets: Prefixes behind it, with their metrics.
        auto: Makes what finds addresses for it, given its id and the mesh networks.
        policies: Factories of routing policies by name, each with its options. They must not wait
            when they start, and have neither tasks nor descriptors here.
        transports: Further transports: schemes and their priorities; that of the first is 0. Their
            host in the network is ``name.scheme``, so that faults can be told apart.

    Attributes:
        mesh: The node itself.
        policies: Its routing policies by name.
        auto: What finds addresses for it, if anything does.
        tun: Its device.
        transports: Its transports.
        transport: The first of them.
        events: What its observer was told, oldest first.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        addresses: Sequence[str] = (),
        bootstrap: Sequence[str] = (),
        *,
        secret: bytes = SECRET,
        mesh_name: str = "test",
        settings: MeshSettings | None = None,
        key: NodeKey | None = None,
        seed: int = 0,
        verifier: RecordVerifier | None = None,
        interval: float = 5.0,
        lookup: Callable[[str], str] = str,
        subnets: Sequence[tuple[str, int]] = (),
        auto: Callable[[str, Sequence[Network]], AutoAddresses] | None = None,
        policies: Mapping[str, tuple[Callable[[Any], RoutingPolicy], Any]] | None = None,
        transports: Mapping[str, int] | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.events: list[tuple[str, str]] = []
        rng = random.Random(f"{name}/{seed}")
        self.key = key or NodeKey.from_seed(rng.randbytes(32))
        self.tun = MemoryTun(offloads=_OFFLOADS)
        self.running = True
        self._planned = float("inf")
        self._lookup = lookup
        self.mesh = Mesh(
            settings or MeshSettings(networks=tuple(map(ip_network, NETWORKS))),
            self.key,
            Keyring([secret], mesh_name),
            self.tun,
            name=name,
            observer=self,
            clock=network.now,
            wall_ns=lambda: int(network.now() * 1e9),
            rng=rng,
            boot_id=rng.randbytes(8),
            resolve=self._resolve,
            wake=self._wake,
            verifier=verifier,
        )
        self.transports = [self._add_transport("memory", name, 0)]
        self.transports += [
            self._add_transport(scheme, f"{name}.{scheme}", priority)
            for scheme, priority in (transports or {}).items()
        ]
        self.transport = self.transports[0]
        self.tun.on_readable = self.mesh.inside.read
        self._static = tuple(map(ip_interface, addresses))
        self._subnets = tuple((ip_network(prefix), metric) for prefix, metric in subnets)
        self.auto = auto(self.key.node_id, self.mesh.settings.networks) if auto else None
        self._announce()
        self.policies: dict[str, RoutingPolicy] = {}
        for policy_name, (factory, options) in (policies or {}).items():
            self._add_policy(policy_name, factory, options)
        if bootstrap:
            self.mesh.joining.add_group("seeds", bootstrap, -1, lambda: interval)
        self.mesh.start()
        self._run()

    def _add_transport(self, scheme: str, host: str, priority: int) -> MemoryTransport:
        context = FakeTransportContext(inbound=self.mesh, node_name=self.name, name=scheme)
        endpoint = format_endpoint(host, 4567, scheme)
        transport = MemoryTransport(context, self.network, endpoint, priority=priority)
        transport.open()
        self.mesh.carriers.add(transport)
        return transport

    def _add_policy(
        self, name: str, factory: Callable[[Any], RoutingPolicy], options: object
    ) -> None:
        context = PolicyNodeContext(
            host=cast("Host", _Host(self.network)),  # it has no tasks, device or addresses
            name=name,
            options=options,
            node_id=self.key.node_id,
            node_name=self.name,
            mesh_networks=self.mesh.settings.networks,
            mesh=self.mesh,
        )
        policy = self.policies[name] = factory(context)
        self.mesh.policies.add(name, policy)
        try:
            policy.__aenter__().send(None)  # runs it to its end, as it does not wait
        except StopIteration:
            return
        raise TypeError(f"policy {name} waits when it starts: it needs an event loop")

    def _announce(self) -> None:
        own = (*self._static, *(self.auto.addresses if self.auto is not None else ()))
        self.mesh.announce(addresses=own, subnets=self._subnets, versions={})

    @property
    def endpoint(self) -> str:
        """Where it can be reached."""
        return self.transport.endpoint

    def kill(self) -> None:
        """Vanish without a word."""
        self.running = False
        for transport in self.transports:
            transport.close()

    def leave(self) -> None:
        """Say goodbye and stop."""
        self.mesh.stop()
        self.kill()

    def up_peers(self) -> set[str]:
        """The names of the nodes that it has a session with."""
        records = self.mesh.directory.records
        return {
            records[node_id].name
            for node_id, peer in self.mesh.peers.items()
            if peer.up and node_id in records
        }

    def known(self) -> set[str]:
        """The names of the live nodes that it has the records of."""
        return {record.name for record in self.mesh.directory.records.values()}

    # Observer

    def peer_up(self, peer: Peer) -> None:
        """Remember it."""
        self.events.append(("peer up", peer.node_id))

    def peer_down(self, peer: Peer, reason: str) -> None:
        """Remember it."""
        self.events.append((f"peer down: {reason}", peer.node_id))

    def path_changed(self, _peer: Peer, path: Path, reason: str) -> None:
        """Remember it."""
        self.events.append((f"path changed: {reason}", path.handle.endpoint))

    def routes_changed(self) -> None:
        """Nothing to do: the device is in memory."""

    def claims_changed(self) -> None:
        """Leave addresses that others have, if they were chosen here."""
        if self.auto is not None and self.auto.settle(self.mesh.directory.claims):
            self._announce()

    def underlay_changed(self) -> None:
        """Nothing to do: the host has no other networks."""

    def event(self, name: str, **fields: object) -> None:
        """Remember it."""
        self.events.append((name, " ".join(f"{key}={value}" for key, value in fields.items())))

    # Time

    def _resolve(
        self, _transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
    ) -> None:
        self.network.clock.post(self.network.now(), found, (self._lookup(url),))

    def _wake(self, deadline: float) -> None:
        if deadline < self._planned:
            self._planned = deadline
            self.network.clock.post(deadline, self._due, deadline)

    def _due(self, deadline: float) -> None:
        if self.running and deadline == self._planned:
            self._run()

    def _run(self) -> None:
        self._planned = float("inf")
        self.mesh.handle_timer()
        deadline = self.mesh.next_deadline()
        if deadline < self._planned:
            self._planned = deadline
            self.network.clock.post(deadline, self._due, deadline)
