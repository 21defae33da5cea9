"""What a mesh needs of the configuration, and who is told what happens in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tunmesh.membership.timing import DirectoryTiming
from tunmesh.peering.timing import PathTiming
from tunmesh.session.timing import Timing

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import Transport
    from tunmesh.interfaces.tun import Network
    from tunmesh.peering.path import Path
    from tunmesh.peering.peer import Peer

#: Finds the endpoints of a URL and calls back with them; with none if that failed.
Resolve: TypeAlias = "Callable[[Transport, str, Callable[[tuple[str, ...]], None]], None]"


@dataclass(frozen=True)
class MeshSettings:
    """What a mesh needs of the configuration.

    Attributes:
        networks: The mesh networks.
        accept_subnets: What other nodes may announce.
        broadcast: Whether broadcasts are carried.
        broadcast_rate: Broadcasts that this node may send in a second, 0 for any number.
        eager_peers: Up to this number of nodes a session is kept with each.
        relay: Whether this node carries datagrams between others.
        suites: AEAD suites allowed, best first.
        hardware_aes: Whether the processor has AES instructions.
        advertise: Endpoints to announce instead of the transports' own.
        session: Timing of sessions and handshakes.
        paths: Timing of paths.
        directory: Timing of gossip and liveness.
    """

    networks: tuple[Network, ...]
    accept_subnets: tuple[Network, ...] = ()
    broadcast: bool = True
    broadcast_rate: int = 1000
    eager_peers: int = 64
    relay: bool = True
    suites: tuple[int, ...] = (1, 2)
    hardware_aes: bool = True
    advertise: tuple[str, ...] = ()
    session: Timing = field(default_factory=Timing)
    paths: PathTiming = field(default_factory=PathTiming)
    directory: DirectoryTiming = field(default_factory=DirectoryTiming)


class Observer(Protocol):
    """Who is told what happens: to log it, to tell plugins and the host."""

    def peer_up(self, peer: Peer) -> None:
        """A peer can be reached."""

    def peer_down(self, peer: Peer, reason: str) -> None:
        """A peer can no longer be reached."""

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        """Traffic to a peer takes another path."""

    def routes_changed(self) -> None:
        """Other nodes, or what they announce, changed."""

    def claims_changed(self) -> None:
        """Who has which address changed, or is in doubt."""

    def underlay_changed(self) -> None:
        """The addresses of this host outside the mesh changed."""

    def event(self, name: str, **fields: object) -> None:
        """Anything else worth a line in the log."""
