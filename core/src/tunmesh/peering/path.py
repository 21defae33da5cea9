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
from tunmesh.session.units import HEADER_SIZE

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle

State: TypeAlias = Literal["trying", "up", "down"]

#: Probe: a random token of 8 bytes.
_PROBE = struct.Struct("!8s")
#: Answer: the token; the keypair's index, the datagrams expected and got under it; flags.
_REPLY = struct.Struct("!8sIQQB")
_OVERRUN = 1
#: Consecutive probes without an answer after which a path is dead.
DEAD_AFTER = 8
#: Consecutive probes without an answer after which the peer is looked for elsewhere too.
SUSPECT_AFTER = 3
_MOST_OUTSTANDING = 16
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
        self.loss = LossMeter()
        self._outstanding: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"<Path {self.handle.endpoint} {self.state}>"

    @property
    def slice_size(self) -> int:
        """Payload bytes of a slice on this path."""
        return self.slice_size_of(self.handle)

    @staticmethod
    def slice_size_of(handle: PathHandle) -> int:
        """Payload bytes of a slice that a handle carries."""
        return min(handle.max_datagram - HEADER_SIZE, 0xFFFF)

    @property
    def suspect(self) -> bool:
        """Whether enough probes went unanswered to look for the peer elsewhere."""
        return self.unanswered >= SUSPECT_AFTER

    def probe(self, now: float) -> bytes:
        """A new probe's body; counts the one before as unanswered if it is."""
        if self._outstanding:
            self.unanswered += 1
        if len(self._outstanding) >= _MOST_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        token = os.urandom(_PROBE.size)
        self._outstanding[token] = now
        return token

    def answered(self, body: bytes, now: float) -> bool:
        """Take the answer to a probe; False if this path did not ask.

        Raises:
            BadPacket: It is malformed.
        """
        try:
            token, index, expected, got, flags = _REPLY.unpack(body)
        except struct.error:
            raise BadPacket("probe answer of a wrong size") from None
        sent = self._outstanding.get(token)
        if sent is None:
            return False
        self._outstanding.clear()
        self.unanswered = 0
        self.answered_at = now
        sample = now - sent
        self.rtt = sample if self.rtt is None else self.rtt + _RTT_WEIGHT * (sample - self.rtt)
        self.loss.report(index, expected, got, overrun=bool(flags & _OVERRUN))
        return True

    def become(self, state: State, now: float) -> None:
        """Change the state."""
        if state != self.state:
            self.state = state
            self.since = now
            self.unanswered = 0
            self._outstanding.clear()


def probe_reply_untrusted(
    probe: bytes, index: int, expected: int, got: int, *, overrun: bool
) -> bytes:
    """The answer to a probe, with what was received under a keypair.

    Raises:
        BadPacket: The probe is malformed.
    """
    if len(probe) != _PROBE.size:
        raise BadPacket("probe of a wrong size")
    return _REPLY.pack(probe, index, expected, got, _OVERRUN if overrun else 0)
