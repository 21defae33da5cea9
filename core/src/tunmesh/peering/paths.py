"""The paths of one peer, and which of them carries traffic.

The best live path is active: by priority, then by whether it answers, then by round-trip time.
Among equals the one in use stays. A path that died takes over again only after it has answered
steadily for a while, longer if it dies often. When the peer moves, its datagrams come along a new
path; that is proven first, then the old one gets a last chance to answer (a *duel*): who copies
datagrams from another address, faster than the original, must not draw the traffic there. Nor who
passes them on both ways: being faster is enough only for an endpoint that the peer itself
announces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from tunmesh.peering.path import DEAD_AFTER, SUSPECT_AFTER, Path

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.mtu import PathMtu
    from tunmesh.peering.services import Services

#: Paths kept for one peer. A NAT that changes the port of every datagram must not fill memory.
_MOST_PATHS = 8
#: A peer that moved is believed when its old path stays silent for this long.
_DUEL = 0.3
#: Not more often than this a path is asked because something came along it.
_CHALLENGE = 0.1
#: A better path takes over only if it is better by this factor in round-trip time.
_BETTER = 0.7
#: A difference of this many seconds is noise, whatever the factor.
_NOISE = 0.001
#: A path that carries traffic for less than this is probed as if that were much.
_YOUNG = 3.0
#: Dead paths to endpoints that the peer does not announce are forgotten after this.
_FORGOTTEN = 60.0


class Paths:
    """The paths of one peer.

    Args:
        services: The mesh.
        send_probe: Sends a probe's body along a path.
        announced: Whether the peer says that it is at an endpoint.

    Attributes:
        active: The path that carries traffic; None if none is alive.
        reason: Why it was chosen.
        since: When it was chosen.
        probes_lost: Probes sent so far that were not answered.
    """

    def __init__(
        self,
        services: Services,
        send_probe: Callable[[Path, bytes], None],
        announced: Callable[[str], bool],
    ) -> None:
        self.active: Path | None = None
        self.reason = ""
        self.since = float("-inf")
        self.probes_lost = 0
        self._services = services
        self._send_probe = send_probe
        self._announced = announced
        self._paths: dict[PathHandle, Path] = {}
        self._duel: tuple[Path, float, float] | None = None  # challenger, begin, end

    def __iter__(self) -> Iterator[Path]:
        return iter(list(self._paths.values()))  # a copy: paths come and go meanwhile

    def get(self, handle: PathHandle) -> Path | None:
        """The path with a handle, if there is one."""
        return self._paths.get(handle)

    def ensure(self, handle: PathHandle, now: float) -> Path:
        """The path with a handle, new if need be."""
        path = self._paths.get(handle)
        if path is None:
            if len(self._paths) >= _MOST_PATHS:
                spare = [path for path in self if path is not self.active]
                self.forget(min(spare, key=self._worth))
            path = self._paths[handle] = Path(handle, now)
            self._services.adopt(handle)
        return path

    def _worth(self, path: Path) -> tuple[bool, bool, float]:
        return path.state == "up", self._announced(path.handle.endpoint), path.since

    def forget(self, path: Path) -> None:
        """Do without a path; not the active one."""
        del self._paths[path.handle]
        self._services.release(path.handle)

    def forget_dead(self, now: float) -> None:
        """Do without paths that are dead for long and lead where the peer does not say it is."""
        for path in self:
            if (
                path.state != "up"
                and path.since < now - _FORGOTTEN
                and not self._announced(path.handle.endpoint)
            ):
                self.forget(path)

    def clear(self) -> None:
        """Do without all."""
        self.active = self._duel = None
        for path in self:
            self.forget(path)

    # ------------------------------------------------------------------ probing

    def ask(self, path: Path, now: float) -> None:
        """Probe a path now."""
        self._send(path, path.probe(now))

    def doubt(self, path: Path, now: float) -> None:
        """Something says that a path carries less than is sent along it."""
        if path.mtu is not None:
            path.mtu.doubt(now)

    def hasten(self, now: float) -> None:
        """The active path carries traffic, and was idle: how good is it now?"""
        active, interval = self.active, self._services.timing.path_probe
        if active is not None and active.next_probe > now + interval:
            active.next_probe = now + interval / 4

    def _send(self, path: Path, body: bytes) -> None:
        self.probes_lost += 1  # until it is answered
        self._send_probe(path, body)

    def _probe_sizes(self, path: Path, sizes: Iterable[int]) -> None:
        for size in sizes:
            self._send(path, path.probe_of(size))

    def challenge(self, handle: PathHandle, now: float) -> None:
        """Ask along a path that something came from, before it is believed."""
        path = self.ensure(handle, now)
        if path.challenged_at < now - _CHALLENGE:
            path.challenged_at = now
            self.ask(path, now)

    def proven(self, path: Path, now: float, reason: str) -> None:
        """A handshake went along a path, which proves it."""
        path.become("up", now, reason)
        path.answered_at = now
        path.unanswered = 0
        path.next_probe = now
        self.choose(now, reason)

    def reply(self, body: bytes, now: float) -> bool:
        """Take the answer to a probe; False if no path asked.

        It counts for the path that was asked. It may come along another one, if the peer has just
        moved or somebody copies what it says.

        Raises:
            BadPacket: It is malformed.
        """
        for path in self._paths.values():
            if path.answered(body, now, probes_lost=self.probes_lost - 1):
                self.probes_lost -= 1
                self.answered(path, now)
                return True
        return False

    def answered(self, path: Path, now: float) -> None:
        """A probe was answered along a path."""
        active = self.active
        came_up = path.state != "up"
        path.become("up", now, "answered")
        if path is active:
            return
        if came_up:
            path.next_probe = min(path.next_probe, now + self._services.timing.path_probe)
        if active is None or active.state != "up":
            self.choose(now, "validated")
        elif active.handle.transport.priority != path.handle.transport.priority:
            self.choose(now, "recovered" if path.deaths else "validated")
        elif not came_up:
            self.choose(now, "no answer" if active.suspect else "better")
        elif self._duel is None:
            self.ask(active, now)
            time = max(_DUEL, 3 * (active.rtt or 0.0))
            active.next_probe = min(active.next_probe, now + time / 2)  # one may get lost
            self._duel = (path, now, now + time)

    def probe_due(self, now: float, *, busy: bool) -> None:
        """Probe the paths whose time has come.

        Args:
            now: The time.
            busy: Whether the active path carried traffic lately.
        """
        for path in self:
            if path.mtu is not None and path.state == "up":
                size = path.mtu.size
                self._probe_sizes(path, path.mtu.due(now, path.rtt, path.answered_at))
                if path.mtu.size < size:
                    path.loss.restart()
            if now < path.next_probe:
                continue
            if path.state == "up" and path.unanswered + 1 > DEAD_AFTER:
                self.dead(path, now, "no answer")
                continue
            self.ask(path, now)
            if path.mtu is not None and path.state == "up":
                self._check_size(path, path.mtu, now, busy=busy)
            if path.state == "trying" and path.unanswered >= DEAD_AFTER:
                path.become("down", now, "no answer")
            if path is self.active and path.unanswered == SUSPECT_AFTER:
                self._look_round(now)
            interval = self._interval(path, now, busy=busy)
            path.next_probe = now + interval * self._services.rng.uniform(0.9, 1.0)
        if self.active is not None and self.active.suspect:
            self.choose(now, "no answer")

    def _check_size(self, path: Path, mtu: PathMtu, now: float, *, busy: bool) -> None:
        """See that datagrams of full size pass; not at each probe of an idle path."""
        timing = self._services.timing
        if (busy and path is self.active) or now >= mtu.checked_at + 0.9 * timing.standby_probe:
            self._probe_sizes(path, mtu.check(now, path.rtt))

    def _look_round(self, now: float) -> None:
        """The active path is in doubt: see which of the others are alive, to be ready."""
        for path in self:
            if path is not self.active and path.state == "up" and not path.unanswered:
                self.ask(path, now)
                path.next_probe = now + self._services.timing.path_probe

    def _interval(self, path: Path, now: float, *, busy: bool) -> float:
        timing = self._services.timing
        if path.state == "down":
            return timing.standby_probe
        if path.unanswered or path.state == "trying":
            return timing.path_probe
        young = now - self.since < _YOUNG and self._services.few_peers
        if path is self.active and (busy or young):
            return timing.path_probe
        if path is not self.active and path.on_trial(now):
            return timing.path_probe
        return timing.keepalive if path is self.active else timing.standby_probe

    # ------------------------------------------------------------------- choice

    def dead(self, path: Path, now: float, reason: str) -> None:
        """A path is dead; it is probed now and then, and may come back."""
        path.become("down", now, reason)
        path.next_probe = now + self._services.timing.standby_probe
        self.choose(now, reason)

    def settle(self, now: float) -> None:
        """End a duel whose time is over: the old path answered, or the peer has moved."""
        if self._duel is None or now < self._duel[2]:
            return
        path, begin, _ = self._duel
        self._duel = None
        active = self.active
        if active is not None and path.state == "up" and active.answered_at < begin:
            self.dead(active, now, "moved")

    def choose(self, now: float, reason: str) -> None:
        """Let the best live path carry the traffic."""
        live = [path for path in self if path.state == "up"]
        active = self.active
        if active is not None and active.state == "up":
            live = [path for path in live if self._clearly_better(path, active, now)] or [active]
        best = max(live, key=_quality, default=None)
        if best is not active:
            self.active = best
            self._duel = None
            self.reason = reason
            self.since = now
            if best is not None:
                best.loss.restart()
                best.next_probe = min(best.next_probe, now + self._services.timing.path_probe)

    def next_deadline(self) -> float:
        """When `probe_due` or `settle` has something to do."""
        deadline = self._duel[2] if self._duel is not None else float("inf")
        for path in self._paths.values():
            deadline = min(deadline, path.next_probe)
            if path.mtu is not None and path.state == "up":
                deadline = min(deadline, path.mtu.next_deadline())
        return deadline

    def _clearly_better(self, path: Path, active: Path, now: float) -> bool:
        """Whether to leave a live path for another: traffic must not swing between equals."""
        priority = path.handle.transport.priority - active.handle.transport.priority
        if priority:
            return priority > 0 and not path.unanswered and not path.on_trial(now)
        if path.unanswered:
            return False
        if active.suspect:  # what blocks it may block the other as well: see it answer first
            return path.answered_at > active.answered_at + 2 * self._services.timing.path_probe
        if path.rtt is None or active.rtt is None or not self._announced(path.handle.endpoint):
            return False
        return path.rtt < _BETTER * active.rtt - _NOISE


def _quality(path: Path) -> tuple[bool, int, bool, float]:
    rtt = path.rtt if path.rtt is not None else float("inf")
    return not path.suspect, path.handle.transport.priority, not path.unanswered, -rtt
