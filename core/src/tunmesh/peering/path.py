"""One way to reach one peer: a transport's handle, whether it is alive, and how good it is.

::

    trying ──answer──► up ──8 probes unanswered──► down
       ▲                ▲                           │
       └── new endpoint └──────────answer───────────┘

A path carries traffic only once a probe with a random token was answered along it: who merely
copies datagrams from another address cannot draw traffic there.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Literal, TypeAlias

from tunmesh.errors import BadPacket
from tunmesh.peering.loss import LossMeter
from tunmesh.peering.mtu import PathMtu
from tunmesh.session.units import HEADER_SIZE, ITEM_PREFIX, TAG_SIZE

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle

State: TypeAlias = Literal["trying", "up", "down"]

#: Probe: a random token of 8 bytes, and any number of bytes to make it as large as need be.
_PROBE = struct.Struct("!8s")
#: What surrounds a probe in its datagram.
_PROBE_OVERHEAD = HEADER_SIZE + ITEM_PREFIX + TAG_SIZE
#: Answer: the token; the keypair's index, the datagrams expected and got under it; flags.
_REPLY = struct.Struct("!8sIQQB")
_OVERRUN = 1
#: Consecutive probes without an answer after which a path is dead.
DEAD_AFTER = 8
#: Consecutive probes without an answer after which the peer is looked for elsewhere too.
SUSPECT_AFTER = 3
_MOST_OUTSTANDING = 16
#: A path that died must be steady for the first of these before it is preferred again, doubled
#: with each death up to the second. Deaths after a longer life than the third do not add up.
_TRIAL = 2.0
_LONGEST_TRIAL = 16.0
_LONG_LIFE = 300.0
#: Datagrams of which many come at a time have a size that is a multiple of this: the receiver
#: takes runs of those apart at once.
_ALIGNMENT = 8
#: Weight of a new round-trip time in the average (RFC 6298).
_RTT_WEIGHT = 1 / 8


class Path:
    """A way to a peer.

    Attributes:
        handle: The transport's handle.
        state: ``trying``, ``up`` or ``down``.
        rtt: Smoothed round-trip time in seconds, None before the first answer.
        unanswered: Consecutive probes without an answer.
        next_probe: When to probe next.
        since: When it got its state.
        reason: Why it has its state, in a few words; empty while that is ``trying``.
        deaths: How often it died of late.
        steady_since: Since when it is up and answers most probes.
        mtu: The search for its size; None if the transport carries any.
        answered_at: When the last answer came; minus infinity before the first.
        challenged_at: When it was last asked because something came along it.
    """

    def __init__(self, handle: PathHandle, now: float) -> None:
        self.handle = handle
        self.state: State = "trying"
        self.rtt: float | None = None
        self.unanswered = 0
        self.next_probe = now
        self.since = now
        self.answered_at = float("-inf")
        self.challenged_at = float("-inf")
        self.reason = ""
        self.deaths = 0
        self.steady_since = float("inf")
        self.loss = LossMeter()
        self.mtu = PathMtu(handle.max_datagram, now) if handle.transport.probes_mtu else None
        self._outstanding: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"<Path {self.handle.endpoint} {self.state}>"

    @property
    def max_datagram(self) -> int:
        """Bytes of the largest datagram that it carries."""
        return self.handle.max_datagram if self.mtu is None else self.mtu.size

    @property
    def slice_size(self) -> int:
        """Payload bytes of a slice on this path."""
        if self.mtu is None:
            return min(self.handle.max_datagram - HEADER_SIZE, 0xFFFF)
        return self.mtu.size // _ALIGNMENT * _ALIGNMENT - HEADER_SIZE

    @property
    def suspect(self) -> bool:
        """Whether enough probes went unanswered to look for the peer elsewhere."""
        return self.unanswered >= SUSPECT_AFTER

    def on_trial(self, now: float) -> bool:
        """Whether it died and has not been steady for long enough since."""
        trial = min(_TRIAL * 2.0 ** (self.deaths - 1), _LONGEST_TRIAL)
        return self.deaths > 0 and now - self.steady_since < trial

    def probe(self, now: float) -> bytes:
        """A new probe's body; counts the one before as unanswered if it is."""
        if self._outstanding:
            self.unanswered += 1
        if len(self._outstanding) >= _MOST_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        token = os.urandom(_PROBE.size)
        self._outstanding[token] = now
        return token

    def probe_of(self, size: int) -> bytes:
        """The body of a probe that travels in a datagram of `size` bytes."""
        token = os.urandom(_PROBE.size)
        if self.mtu is not None:
            self.mtu.sent(token, size)
        return token.ljust(size - _PROBE_OVERHEAD, b"\0")

    def answered(self, body: bytes, now: float, *, probes_lost: int = 0) -> bool:
        """Take the answer to a probe; False if this path did not ask.

        Args:
            body: What came.
            now: The time.
            probes_lost: Probes to the peer so far that were not answered, along whatever path.
                Some are sent although they will hardly arrive; they say nothing of the traffic.

        Raises:
            BadPacket: It is malformed.
        """
        try:
            token, index, expected, got, flags = _REPLY.unpack(body)
        except struct.error:
            raise BadPacket("probe answer of a wrong size") from None
        sent = self._outstanding.get(token)
        if sent is not None:
            sample = now - sent
            self.rtt = sample if self.rtt is None else self.rtt + _RTT_WEIGHT * (sample - self.rtt)
        elif self.mtu is None or not self.mtu.answered(token, now):
            return False
        self._outstanding.clear()
        if self.suspect:
            self.steady_since = now
        self.unanswered = 0
        self.answered_at = now
        self.loss.report(index, expected - probes_lost, got, overrun=bool(flags & _OVERRUN))
        return True

    def become(self, state: State, now: float, reason: str = "") -> None:
        """Change the state."""
        if state != self.state:
            if self.state == "up":
                self.deaths = self.deaths + 1 if now - self.since < _LONG_LIFE else 1
            self.state = state
            self.since = now
            self.reason = reason
            self.steady_since = now if state == "up" else float("inf")
            self.unanswered = 0
            self._outstanding.clear()


def probe_reply_untrusted(
    probe: bytes, index: int, expected: int, got: int, *, overrun: bool
) -> bytes:
    """The answer to a probe, with what was received under a keypair.

    Raises:
        BadPacket: The probe is malformed.
    """
    if len(probe) < _PROBE.size:
        raise BadPacket("probe too short")
    return _REPLY.pack(probe[: _PROBE.size], index, expected, got, _OVERRUN if overrun else 0)
