"""How many datagrams a path loses, and how large a unit may be on it.

A lost datagram takes its whole unit along. On a clean path units are whole, which costs nothing
up to a loss of about 0.1 %. Beyond it superpackets are cut so that no more than one in twenty of
the pieces is lost. A congestion window shrinks as often for a lost piece as for a lost datagram,
so finer ones would only cost turns of the interpreter.
"""

from __future__ import annotations

#: Below this loss units are whole again; the gap to `_SHRINKS` is the hysteresis.
_WHOLE = 0.002
_SHRINKS = 0.003
#: Share of units that may be lost beyond.
_UNIT_LOSS = 0.05
#: Datagrams that a sample needs to say anything.
_LEAST = 50
#: Datagrams that make a sample count in full.
_FULL = 1000
#: Samples left out from an overrun on. What was dropped at the tail of the receiver's queue is
#: missed only when the queue has been read to its end, which may be a sample later.
_ECHO = 2


class LossMeter:
    """Turns a receiver's cumulative counts into the loss of datagrams.

    Attributes:
        loss: Share of datagrams lost, 0 to 1.
    """

    __slots__ = ("_expected", "_got", "_index", "_limited", "_skip", "loss")

    def __init__(self) -> None:
        self.loss = 0.0
        self._index = self._expected = self._got = 0
        self._limited = False
        self._skip = 0

    def restart(self) -> None:
        """Start anew: what was lost so far was lost elsewhere, or for a reason that is gone."""
        self.loss = 0.0
        self._index = 0
        self._limited = False
        self._skip = _ECHO  # units that came in part are given up a second later

    def report(self, index: int, expected: int, got: int, *, overrun: bool) -> None:
        """Take a receiver's report.

        Args:
            index: The keypair that it is about; counts start anew with each.
            expected: Datagrams sent under it, as far as the receiver can tell.
            got: How many of them came in units that could be opened.
            overrun: Whether the receiver's own socket overflowed meanwhile. Smaller units would
                make that worse, so such a sample is left out.
        """
        if overrun:  # even if the sample is too small to be looked at now
            self._skip = _ECHO
        if index != self._index or expected < self._expected or got < self._got:
            self._index, self._expected, self._got = index, expected, got
            return
        sent, came = expected - self._expected, got - self._got
        if sent < _LEAST:
            return
        self._expected, self._got = expected, got
        if self._skip:
            self._skip -= 1
            return
        sample = min(max(1 - came / sent, 0.0), 1.0)
        # Up at once, down slowly: units that are too large cost more than ones that are too small.
        weight = min(max(sent / _FULL, 0.05), 1.0 if sample > self.loss else 0.25)
        self.loss += weight * (sample - self.loss)

    def bulk_limit(self, slice_size: int) -> int:
        """Bytes of the largest unit for a path with slices of that size; 0 for no limit."""
        if self.loss < (_WHOLE if self._limited else _SHRINKS):
            self._limited = False
            return 0
        self._limited = True
        slices = max(1, int(_UNIT_LOSS / self.loss))
        return slices * slice_size
