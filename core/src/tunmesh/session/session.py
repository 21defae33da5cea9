"""Which keypairs of one peer are accepted and which one sends. Pure bookkeeping.

::

                     install (responder)                          install (initiator)
                            |                                            |
                            v        authenticated (first unit)          v
                          next  -------------------------------------> current
                                                                         |  replaced
                                                                         v
                                                                      previous --> falls out

The initiator uses a keypair at once: the response proves that the responder has it. The
responder waits for a first authentic unit. Units under every keypair held here are accepted
until it is `Timing.reject_after` old, so that renewing keys loses nothing.

Both may open at once. Each then holds two good keypairs, and the one begun by the node with
the smaller static key is preferred for sending on both sides.
"""

from __future__ import annotations

from typing import Final

from tunmesh.session.keypair import Keypair
from tunmesh.session.timing import Timing

# Requests that were on their way when the first response arrived all leave a keypair with the
# responder; eight cover a round trip of 4 s under the schedule by which requests are repeated.
_MAX_NEXT: Final = 8
# Two: when both sides renew at once, the older keypair and the one not preferred.
_MAX_PREVIOUS: Final = 2


class Session:
    """The keypairs of one peer.

    Args:
        own_static: This node's static key.
        remote_static: The peer's.
        timing: Times and limits.

    Attributes:
        current: The keypair that sends, if `sending` allows it.
    """

    __slots__ = ("_next", "_previous", "_smaller", "_timing", "current")

    def __init__(self, own_static: bytes, remote_static: bytes, timing: Timing) -> None:
        self._smaller = own_static < remote_static
        self._timing = timing
        self._next: list[Keypair] = []
        self._previous: list[Keypair] = []
        self.current: Keypair | None = None

    @property
    def next(self) -> Keypair | None:
        """The newest keypair that waits for a first unit."""
        return self._next[-1] if self._next else None

    @property
    def previous(self) -> Keypair | None:
        """The last keypair that was replaced, still accepted."""
        return self._previous[-1] if self._previous else None

    def keypairs(self) -> list[Keypair]:
        """All that are accepted, oldest use first."""
        current = [self.current] if self.current is not None else []
        return [*self._previous, *current, *self._next]

    def install(self, keypair: Keypair, now: float) -> list[Keypair]:
        """Take the keypair of a finished handshake.

        Returns:
            Keypairs that fell out: their receiver index is free.
        """
        if not keypair.initiator:
            self._next.append(keypair)
            return _cut(self._next, _MAX_NEXT)
        return self._use(keypair, now)

    def authenticated(self, keypair: Keypair, now: float) -> list[Keypair]:
        """Note the first authentic unit under a keypair; calls after the first change nothing.

        Returns:
            As `install`.
        """
        keypair.confirmed = True
        if keypair not in self._next:
            return []
        # The peer began these before the one it uses now: their responses came too late for it.
        position = self._next.index(keypair)
        fallen = self._next[:position]
        del self._next[: position + 1]
        return fallen + self._use(keypair, now)

    def sending(self, now: float) -> Keypair | None:
        """The keypair to send under, None if there is none that may."""
        current = self.current
        if current is None or current.exhausted(now, self._timing):
            return None
        return current

    def needs_handshake(self, now: float) -> bool:
        """Whether this side should begin a handshake: nothing to send under, or rekey is due."""
        if self._next and now - self._next[0].created < self._timing.confirm_wait:
            return False  # the peer's handshake is about to be confirmed
        current = self.sending(now)
        return current is None or current.wants_rekey(now, self._timing)

    def expire(self, now: float) -> list[Keypair]:
        """Drop the keypairs that are too old to be accepted.

        Returns:
            As `install`.
        """
        fallen = [keypair for keypair in self.keypairs() if keypair.expired(now, self._timing)]
        for keypair in fallen:
            self._forget(keypair)
        return fallen

    def close(self) -> list[Keypair]:
        """Drop everything.

        Returns:
            As `install`.
        """
        fallen = self.keypairs()
        self._next.clear()
        self._previous.clear()
        self.current = None
        return fallen

    def _use(self, keypair: Keypair, now: float) -> list[Keypair]:
        """Send under a keypair that the peer certainly has, unless the current one is preferred."""
        current = self.current
        if current is None:
            self.current = keypair
        elif self._keeps(current, keypair) and not current.exhausted(now, self._timing):
            self._previous.append(keypair)
        else:
            self._previous.append(current)
            self.current = keypair
        return _cut(self._previous, _MAX_PREVIOUS)

    def _keeps(self, current: Keypair, other: Keypair) -> bool:
        """Whether both sides opened at once and the current keypair is the preferred one.

        A peer that restarted has lost the current one, hence the boot id.
        """
        return (
            current.initiator is not other.initiator
            and current.boot_id == other.boot_id
            and abs(current.created - other.created) < self._timing.simultaneous
            and current.initiator is self._smaller
        )

    def _forget(self, keypair: Keypair) -> None:
        if keypair is self.current:
            self.current = None
        elif keypair in self._next:
            self._next.remove(keypair)
        else:
            self._previous.remove(keypair)


def _cut(keypairs: list[Keypair], size: int) -> list[Keypair]:
    """Remove and return the oldest ones beyond `size`."""
    fallen = keypairs[:-size]
    del keypairs[:-size]
    return fallen
