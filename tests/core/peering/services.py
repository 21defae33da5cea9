"""The mesh around a peer, as a fake that remembers."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.core.fakes import RecordingTransport
from tunmesh.counters import Drops
from tunmesh.dataplane import Port
from tunmesh.interfaces.transport import PathHandle
from tunmesh.peering.path import Path
from tunmesh.peering.peer import Peer
from tunmesh.peering.timing import PathTiming
from tunmesh.session.keypair import Keypair
from tunmesh.session.timing import Timing
from tunmesh.session.units import Sealer


class MiddleRandom(random.Random):
    """Draws the middle of every range: no jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class FakeServices:
    """Remembers what a peer asks for.

    Attributes:
        transport: Serves every endpoint.
        told: What was said, oldest first: a name and its arguments.
        installed: Keypairs that can be found.
        rescheduled: How often a deadline was said to be nearer.
        refuse: Whether no handshake can be made.
        ways: Handles of paths through other nodes.
    """

    def __init__(self) -> None:
        self.drops = Drops()
        self.sealer = Sealer()
        self.timing = PathTiming()
        self.session_timing = Timing()
        self.few_peers = True
        self.rng: random.Random = MiddleRandom(1)
        self.transport = RecordingTransport()
        self.told: list[tuple[object, ...]] = []
        self.installed: list[Keypair] = []
        self.rescheduled = 0
        self.refuse = False
        self.ways: list[PathHandle] = []
        self._initiations = 0

    def take(self) -> list[tuple[object, ...]]:
        """What was said since the last call."""
        told, self.told = self.told, []
        return told

    def initiation(self, static: bytes, now: float) -> bytes | None:
        self._initiations += 1
        return None if self.refuse else b"\x01 initiation %d" % self._initiations

    def connect(self, endpoint: str) -> PathHandle:
        return self.transport.connect(endpoint)

    def adopt(self, handle: PathHandle) -> None:
        handle.transport.adopt(handle)

    def release(self, handle: PathHandle) -> None:
        handle.transport.release(handle)

    def install(self, keypair: Keypair) -> None:
        self.installed.append(keypair)

    def uninstall(self, keypairs: Iterable[Keypair]) -> None:
        for keypair in keypairs:
            self.installed.remove(keypair)

    def peer_up(self, peer: Peer, now: float) -> None:
        self.told.append(("up",))

    def peer_down(self, peer: Peer, reason: str, now: float) -> None:
        self.told.append(("down", reason))

    def peer_suspect(self, peer: Peer, now: float) -> None:
        self.told.append(("suspect",))

    def peer_heard(self, peer: Peer, now: float) -> None:
        self.told.append(("heard",))

    def peer_message(self, peer: Peer, message: bytes, now: float) -> None:
        self.told.append(("message", message))

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        self.told.append(("path", path.handle.endpoint, reason))

    def relays(self, peer: Peer) -> list[PathHandle]:
        return self.ways

    def flush(self, port: Port) -> None:
        self.told.append(("flush",))

    def reschedule(self, peer: Peer) -> None:
        self.rescheduled += 1
