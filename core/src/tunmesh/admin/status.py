"""The status document: what ``tunmesh status --json`` prints. Filled by the node, only data here.

Fields may be added; none is renamed or removed while `SCHEMA` stays.
"""

from __future__ import annotations

import msgspec

SCHEMA = 1


class MeshStatus(msgspec.Struct, frozen=True):
    """The mesh that the node belongs to.

    Secrets are told apart by fingerprints that reveal nothing; the first one makes sessions, all
    are accepted. `peers_old_secret` counts the peers whose session another one than that made.
    """

    name: str
    networks: tuple[str, ...]
    trust: str = "secret"
    secrets: tuple[str, ...] = ()
    peers_old_secret: int = 0


class NodeStatus(msgspec.Struct, frozen=True):
    """This node. Its addresses have their prefixes."""

    id: str
    name: str
    addresses: tuple[str, ...]
    subnets: tuple[str, ...]
    endpoints: tuple[str, ...]
    uptime_s: float
    healthy: bool
    #: The longest time by which something due was late in the last minute.
    loop_lag_s: float = 0.0


class DeviceStatus(msgspec.Struct, frozen=True):
    """The TUN device. Received is what this host sent into it, a superpacket as its segments."""

    name: str
    backend: str
    mtu: int
    offloads: tuple[str, ...]
    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0


class PluginStatus(msgspec.Struct, frozen=True):
    """One plugin."""

    name: str
    distribution: str
    version: str
    roles: tuple[str, ...]
    state: str
    error: str | None = None


class LinkStatus(msgspec.Struct, frozen=True):
    """One path to a peer. Loss is a share of datagrams; bytes are those of whole datagrams.

    `reason` tells why the path has its state, or why it was chosen if it is active; `since_s` for
    how many seconds that is so. `mtu` is the size of the largest datagram that passes.
    """

    transport: str
    endpoint: str
    state: str
    active: bool
    rtt_ms: float | None
    loss: float
    mtu: int
    cipher: str
    handshake_age_s: float | None
    rx_bytes: int
    tx_bytes: int
    reason: str = ""
    since_s: float = 0.0


class TrafficStatus(msgspec.Struct, frozen=True):
    """Packets of IP, and their bytes."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int


class PeerStatus(msgspec.Struct, frozen=True):
    """One other node. Packets and bytes are those of inner IP packets.

    `secret` is the fingerprint of the mesh secret that made its session, empty without a session.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
    subnets: tuple[str, ...]
    state: str  # up, connecting, down, stale
    via: str
    links: tuple[LinkStatus, ...]
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    last_seen_s: float | None
    #: By transport.
    carried: dict[str, TrafficStatus] = {}
    secret: str = ""


class RouteStatus(msgspec.Struct, frozen=True):
    """One route of the mesh; peers are names. Of several subnets the smallest metric is used."""

    prefix: str
    kind: str  # address, subnet, broadcast, multicast
    peers: tuple[str, ...]
    source: str
    metric: int = 0


class RefusedStatus(msgspec.Struct, frozen=True):
    """A prefix that a node announces and this one does not accept; the peer is a name."""

    prefix: str
    peer: str
    reason: str


class MembershipStatus(msgspec.Struct, frozen=True):
    """What one node wants of a group: only these sources, or all but these."""

    node: str
    mode: str  # include, exclude
    sources: tuple[str, ...]


class GroupStatus(msgspec.Struct, frozen=True):
    """One multicast group.

    Sources are those that somebody asked for; None if somebody takes any. Members are the other
    nodes, by name. What follows counts the packets of this host: replicas are copies sent, one for
    each member.
    """

    group: str
    sources: tuple[str, ...] | None
    local: bool
    members: tuple[str, ...]
    memberships: tuple[MembershipStatus, ...] = ()
    packets: int = 0
    replicas: int = 0
    rate_limited: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document."""

    schema: int = SCHEMA
    version: str
    mesh: MeshStatus
    node: NodeStatus
    device: DeviceStatus
    plugins: tuple[PluginStatus, ...]
    peers: tuple[PeerStatus, ...]
    routes: tuple[RouteStatus, ...]
    groups: tuple[GroupStatus, ...]
    drops: dict[str, int]
    #: How many entries the tables of the node have.
    tables: dict[str, int] = {}
    #: Handshakes by transport and result: of messages that came.
    handshakes_received: dict[str, dict[str, int]] = {}
    #: Handshakes by result, and what each transport and each routing policy counts.
    handshakes: dict[str, int] = {}
    transports: dict[str, dict[str, int]] = {}
    #: What was carried between other nodes.
    relay: dict[str, int] = {}
    policies: dict[str, dict[str, int]] = {}
    #: Addresses that two nodes claim, one readable line each.
    conflicts: tuple[str, ...] = ()
    #: What others announce and this node does not accept.
    refused: tuple[RefusedStatus, ...] = ()
    #: What does not work as configured, one readable line each.
    warnings: tuple[str, ...] = ()
