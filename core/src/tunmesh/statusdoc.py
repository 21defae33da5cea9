"""The status document of a running node, made when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec

from tunmesh import __version__
from tunmesh.admin.status import (
    DeviceStatus,
    GroupStatus,
    LinkStatus,
    MembershipStatus,
    MeshStatus,
    NodeStatus,
    PeerStatus,
    PluginStatus,
    RefusedStatus,
    RouteStatus,
    Status,
    TrafficStatus,
)
from tunmesh.session import suites

if TYPE_CHECKING:
    from tunmesh.forwarding import Address
    from tunmesh.interfaces import GroupMember, Tun
    from tunmesh.mesh import Mesh
    from tunmesh.peering.peer import Peer

_MS = 1000.0


def build(
    mesh: Mesh,
    tun: Tun,
    *,
    mesh_name: str,
    backend: str,
    plugins: Iterable[dict[str, Any]],
    warnings: Iterable[str] = (),
    uptime: float,
    healthy: bool,
    lag: float = 0.0,
    now: float,
) -> dict[str, Any]:
    """The document, made of builtins."""
    names = node_names(mesh)
    own = mesh.directory.own
    routes = tuple(
        RouteStatus(
            str(route.prefix),
            route.kind,
            tuple(names.get(peer, peer) for peer in route.peers),
            route.source,
            route.metric,
        )
        for route in mesh.forwarding.routes()
    )
    status = Status(
        version=__version__,
        mesh=_mesh(mesh, mesh_name),
        node=NodeStatus(
            id=mesh.key.node_id,
            name=own.name,
            addresses=own.addresses,
            subnets=tuple(prefix for prefix, _ in own.subnets),
            endpoints=own.endpoints,
            uptime_s=round(uptime, 3),
            healthy=healthy,
            loop_lag_s=round(lag, 4),
        ),
        device=DeviceStatus(
            tun.name,
            backend,
            tun.mtu,
            tuple(sorted(tun.offloads)),
            mesh.inside.packets,
            mesh.inside.bytes,
            mesh.outside.packets,
            mesh.outside.bytes,
        ),
        plugins=tuple(PluginStatus(**plugin) for plugin in plugins),
        peers=tuple(
            peer_status(mesh, node_id, names, now)
            for node_id in sorted(names, key=names.__getitem__)
            if node_id != mesh.key.node_id
        ),
        routes=routes,
        groups=_groups(mesh, names),
        drops=dict(mesh.drops),
        tables=_tables(mesh),
        handshakes=dict(mesh.handshakes.counters),
        handshakes_received={
            transport: dict(results) for transport, results in mesh.control.handshakes.items()
        },
        transports=mesh.carriers.statistics(),
        relay=mesh.relaying.statistics(),
        policies=mesh.policies.statistics(),
        conflicts=tuple(
            f"{conflict.address}: held by {names.get(conflict.holder, conflict.holder)}, "
            f"claimed by {names.get(conflict.claimant, conflict.claimant)}"
            for conflict in mesh.directory.claims.conflicts()
        ),
        refused=tuple(
            RefusedStatus(str(prefix), names.get(node_id, node_id), reason)
            for node_id, prefixes in mesh.forwarding.refused.items()
            for prefix, reason in prefixes
        ),
        warnings=tuple(warnings),
    )
    document: dict[str, Any] = msgspec.to_builtins(status)
    return document


def _tables(mesh: Mesh) -> dict[str, int]:
    """How many entries the tables have that grow with the mesh and with its traffic."""
    return {
        "records": len(mesh.directory.records),
        "peers": len(mesh.peers),
        "keypairs": len(mesh.outside.keypairs),
        "routes": len(mesh.forwarding.routes()),
        "flows": mesh.inside.flows,
        "staged": sum(len(peer.port.staged) for peer in mesh.peers.values()),
    }


def _mesh(mesh: Mesh, name: str) -> MeshStatus:
    secrets = tuple(keys.psk_id.hex() for keys in mesh.keyring.all)
    return MeshStatus(
        name=name,
        networks=tuple(map(str, mesh.settings.networks)),
        secrets=secrets,
        peers_old_secret=sum(_secret(peer) not in ("", secrets[0]) for peer in mesh.peers.values()),
    )


def _secret(peer: Peer) -> str:
    """The fingerprint of the secret that made a peer's session."""
    return peer.session.current.psk_id.hex() if peer.session.current is not None else ""


def node_names(mesh: Mesh) -> dict[str, str]:
    """A name for every node; a repeated one gets the start of its id."""
    found = {node_id: record.name for node_id, record in mesh.directory.records.items()}
    for node_id in mesh.peers:
        found.setdefault(node_id, node_id[:8])
    found[mesh.key.node_id] = mesh.directory.own.name
    often = Counter(found.values())
    return {
        node_id: f"{name}#{node_id[:4]}" if often[name] > 1 else name
        for node_id, name in found.items()
    }


def peer_status(mesh: Mesh, node_id: str, names: dict[str, str], now: float) -> PeerStatus:
    """What is shown of one other node."""
    peer = mesh.peers.get(node_id)
    record = mesh.directory.records.get(node_id)
    age = mesh.directory.age(node_id, now)
    return PeerStatus(
        id=node_id,
        name=names[node_id],
        addresses=tuple(map(str, mesh.directory.claims.owned(node_id))),
        subnets=tuple(prefix for prefix, _ in record.subnets) if record else (),
        state=_state(mesh, node_id, peer),
        via=_via(mesh, peer, names),
        links=_links(peer, now) if peer else (),
        rx_packets=peer.port.rx_packets if peer else 0,
        tx_packets=peer.port.tx_packets if peer else 0,
        rx_bytes=peer.port.rx_bytes if peer else 0,
        tx_bytes=peer.port.tx_bytes if peer else 0,
        last_seen_s=round(age, 3) if age < float("inf") else None,
        carried={
            transport: TrafficStatus(*traffic)
            for transport, traffic in (peer.carried.traffic() if peer else {}).items()
        },
        secret=_secret(peer) if peer else "",
    )


def _state(mesh: Mesh, node_id: str, peer: Peer | None) -> str:
    if peer is not None and peer.up:
        return "up"
    if node_id in mesh.directory.records and not mesh.directory.live(node_id):
        return "stale"
    return "connecting" if peer is not None and peer.dialing else "down"


def _via(mesh: Mesh, peer: Peer | None, names: dict[str, str]) -> str:
    """``direct``, or the name of the node that carries what is said."""
    active = peer.paths.active if peer is not None else None
    relay = mesh.relaying.between(active.handle) if active is not None else None
    return "direct" if relay is None else names.get(relay, relay)


def _links(peer: Peer, now: float) -> tuple[LinkStatus, ...]:
    keypair = peer.session.current
    active, chosen, since = peer.paths.active, peer.paths.reason, peer.paths.since
    return tuple(
        LinkStatus(
            transport=path.handle.transport.name,
            endpoint=path.handle.endpoint,
            state=path.state,
            active=path is active,
            rtt_ms=round(path.rtt * _MS, 3) if path.rtt is not None else None,
            loss=round(path.loss.loss, 5),
            mtu=path.max_datagram,
            cipher=suites.NAMES[keypair.suite] if keypair else "",
            handshake_age_s=round(now - keypair.created, 3) if keypair else None,
            rx_bytes=path.handle.rx_bytes,
            tx_bytes=path.handle.tx_bytes,
            reason=chosen if path is active else path.reason,
            since_s=round(now - (since if path is active else path.since), 3),
        )
        for path in peer.paths
    )


def _groups(mesh: Mesh, names: dict[str, str]) -> tuple[GroupStatus, ...]:
    """The groups that somebody is a member of, and those that this host sent to."""
    members: dict[Address, list[GroupMember]] = {
        ip_address(packed): [] for packed in mesh.inside.groups
    }
    for member in mesh.policies.group_members():
        members.setdefault(member.group, []).append(member)
    ordered = sorted(members, key=lambda group: (group.version, int(group)))
    return tuple(_group(mesh, group, members[group], names) for group in ordered)


def _group(
    mesh: Mesh, group: Address, members: Sequence[GroupMember], names: dict[str, str]
) -> GroupStatus:
    own = mesh.key.node_id
    traffic = mesh.inside.groups.get(group.packed)
    sources = {source for member in members for source in member.sources}
    any_source = not members or any(member.exclude for member in members)
    return GroupStatus(
        group=str(group),
        sources=None if any_source else _texts(sources),
        local=any(member.node_id == own for member in members),
        members=tuple(sorted(names.get(m.node_id, m.node_id) for m in members if m.node_id != own)),
        memberships=tuple(
            MembershipStatus(
                names.get(member.node_id, member.node_id),
                "exclude" if member.exclude else "include",
                _texts(member.sources),
            )
            for member in members
        ),
        packets=traffic.packets if traffic else 0,
        replicas=traffic.replicas if traffic else 0,
        rate_limited=traffic.rate_limited if traffic else 0,
    )


def _texts(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(map(str, sorted(addresses, key=int)))
