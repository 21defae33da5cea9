"""What a peer needs of the mesh around it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tunmesh.counters import Drops
    from tunmesh.dataplane import Port
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.path import Path
    from tunmesh.peering.peer import Peer
    from tunmesh.peering.timing import PathTiming
    from tunmesh.session.keypair import Keypair
    from tunmesh.session.timing import Timing
    from tunmesh.session.units import Sealer


class Services(Protocol):
    """The mesh, as its peers see it."""

    drops: Drops
    sealer: Sealer
    timing: PathTiming
    session_timing: Timing
    rng: random.Random

    @property
    def few_peers(self) -> bool:
        """Whether there are so few peers that probes of all of them cost next to nothing."""

    def initiation(self, static: bytes, now: float) -> bytes | None:
        """A handshake initiation towards a static key; None for a key that cannot be."""

    def connect(self, endpoint: str) -> PathHandle:
        """A handle for an endpoint; EndpointError if no transport serves it."""

    def adopt(self, handle: PathHandle) -> None:
        """A path uses the handle."""

    def release(self, handle: PathHandle) -> None:
        """A path uses the handle no longer."""

    def install(self, keypair: Keypair) -> None:
        """Let what arrives for a keypair be found."""

    def uninstall(self, keypairs: Iterable[Keypair]) -> None:
        """Forget keypairs."""

    def peer_up(self, peer: Peer, now: float) -> None:
        """The session is confirmed and a path is alive."""

    def peer_down(self, peer: Peer, reason: str, now: float) -> None:
        """No path is alive any longer."""

    def peer_suspect(self, peer: Peer, now: float) -> None:
        """The peer does not answer; it may recover, or be somebody else by now."""

    def peer_heard(self, peer: Peer, now: float) -> None:
        """The peer answered or asked just now."""

    def peer_message(self, peer: Peer, message: bytes, now: float) -> None:
        """A control message came."""

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        """Traffic takes another path."""

    def relays(self, peer: Peer) -> list[PathHandle]:
        """Ways to a peer through other nodes, best first."""

    def flush(self, port: Port) -> None:
        """The port can send now."""

    def reschedule(self, peer: Peer) -> None:
        """The peer's next deadline may be nearer than it was."""
