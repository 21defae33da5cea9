"""Whole nodes on a network in memory: hundreds in one process, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from ipaddress import ip_interface, ip_network

from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.interfaces.transport import Transport
from tunmesh.membership.records import RecordVerifier
from tunmesh.mesh import Mesh, MeshSettings
from tunmesh.peering.path import Path
from tunmesh.peering.peer import Peer
from tunmesh.testing.context import FakeTransportContext
from tunmesh.testing.memory import MemoryTransport, MemoryTun
from tunmesh.testing.network import MemoryNetwork, format_endpoint

SECRET = b"a secret of the simulated mesh, 1234567890"
NETWORKS = ("10.0.0.0/8", "fd00::/16")
_OFFLOADS = frozenset({"csum", "tso4", "tso6", "uso4", "uso6"})


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

    Attributes:
        mesh: The node itself.
        tun: Its device.
        transport: Its transport.
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
        context = FakeTransportContext(inbound=self.mesh, node_name=name, name="memory")
        self.transport = MemoryTransport(context, network, format_endpoint(name, 4567))
        self.transport.open()
        self.tun.on_readable = self.mesh.inside.read
        self.mesh.carriers.add(self.transport)
        self.mesh.announce(addresses=tuple(map(ip_interface, addresses)), subnets=(), versions={})
        if bootstrap:
            self.mesh.joining.add_group("seeds", bootstrap, -1, lambda: interval)
        self.mesh.start()
        self._run()

    @property
    def endpoint(self) -> str:
        """Where it can be reached."""
        return self.transport.endpoint

    def kill(self) -> None:
        """Vanish without a word."""
        self.running = False
        self.transport.close()

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
