"""Which groups this host wants, from which sources: RFC 3376, section 6; RFC 3810, section 7.

Contains no I/O; the time is an argument. The state of one interface with exactly one host on it:
behind a TUN device is one IP stack, which has merged the wishes of its programs already. So the
tables of sections 6.4.1 and 6.4.2 (7.4.1 and 7.4.2) shrink. Where a router would ask by
``Q(G,S)`` whether another host still wants something, nobody else could answer, and the timers
that it would lower expire at once:

::

    state        record      becomes         timers
    INCLUDE A    IS_IN B     INCLUDE A+B     B = GMI
    INCLUDE A    TO_IN B     INCLUDE B       B = GMI
    INCLUDE A    ALLOW B     INCLUDE A+B     B = GMI
    INCLUDE A    BLOCK B     INCLUDE A-B
    EXCLUDE Y    IS_IN B     INCLUDE B       B = GMI
    EXCLUDE Y    TO_IN B     INCLUDE B       B = GMI
    EXCLUDE Y    ALLOW B     EXCLUDE Y-B
    EXCLUDE Y    BLOCK B     EXCLUDE Y+B
    any          IS_EX B     EXCLUDE B       group = GMI
    any          TO_EX B     EXCLUDE B       group = GMI

``INCLUDE {}`` is no membership. ``IS_IN`` adds, since a host may spread a long list over several
records (section 4.2.16). GMI is the group membership interval (section 8.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tunmesh_multicast_igmp.messages import Address, Record, RecordType

#: Records after which all sources but those that they name are wanted.
_TO_EXCLUDE = frozenset({RecordType.IS_EX, RecordType.TO_EX})


class Filter(NamedTuple):
    """From which sources a group is wanted.

    Attributes:
        exclude: Whether `sources` are those not wanted (EXCLUDE) or those wanted (INCLUDE).
        sources: Source addresses.
    """

    exclude: bool
    sources: frozenset[Address]

    def accepts(self, source: Address) -> bool:
        """Whether packets from a source are wanted."""
        return (source in self.sources) != self.exclude


@dataclass
class _Group:
    """State of one group: the mode, when EXCLUDE ends, and each source with its deadline."""

    exclude: bool = False
    deadline: float = 0.0
    #: INCLUDE: sources wanted, with the times when they expire. EXCLUDE: sources not wanted.
    sources: dict[Address, float] = field(default_factory=dict)

    def expires(self) -> float:
        return self.deadline if self.exclude else min(self.sources.values(), default=0.0)


class GroupTable:
    """The groups that one host wants.

    Args:
        membership_interval: Seconds after which what was not reported again is over (GMI).
        most_groups: Groups beyond these are refused.
        most_sources: Sources of a group beyond these are refused: not delivered in INCLUDE mode,
            delivered nevertheless in EXCLUDE mode.

    Attributes:
        refused: How often a group or a source was refused.
    """

    def __init__(
        self, membership_interval: float, *, most_groups: int = 1024, most_sources: int = 63
    ) -> None:
        self.refused = 0
        self._interval = membership_interval
        self._most_groups = most_groups
        self._most_sources = most_sources
        self._groups: dict[Address, _Group] = {}
        self._filters: Mapping[Address, Filter] | None = {}

    def __len__(self) -> int:
        return len(self._groups)

    def set_limits(self, membership_interval: float, most_groups: int) -> None:
        """Other limits for what is reported from now on."""
        self._interval = membership_interval
        self._most_groups = most_groups

    def filters(self) -> Mapping[Address, Filter]:
        """What is wanted of each group, the oldest first; the same object until it changes."""
        if self._filters is None:
            self._filters = {
                address: Filter(group.exclude, frozenset(group.sources))
                for address, group in self._groups.items()
            }
        return self._filters

    def receive(self, record: Record, now: float) -> bool:
        """Take a record.

        Returns:
            Whether something is no longer wanted, so that asking again would show a mistake.
        """
        group = self._groups.get(record.group)
        if group is None:
            if _is_void(record):
                return False
            if len(self._groups) >= self._most_groups:
                self.refused += 1
                return False
            group = self._groups[record.group] = _Group()
            self._filters = None
        before = group.exclude, group.sources.keys()
        exclude, sources = self._next(group, record, now)
        changed = before != (exclude, sources.keys())
        group.exclude, group.sources = exclude, sources
        if record.kind in _TO_EXCLUDE:
            group.deadline = now + self._interval
        elif not exclude and not sources:
            del self._groups[record.group]
        if changed:
            self._filters = None
        return changed and record.kind in {RecordType.TO_IN, RecordType.BLOCK}

    def _next(self, group: _Group, record: Record, now: float) -> tuple[bool, dict[Address, float]]:
        """Mode and sources after a record."""
        kind = record.kind
        named = dict.fromkeys(record.sources, now + self._interval)
        if kind in _TO_EXCLUDE:
            return True, self._bounded(named)
        if kind == RecordType.TO_IN or (kind == RecordType.IS_IN and group.exclude):
            return False, self._bounded(named)
        if kind == RecordType.IS_IN or (kind == RecordType.ALLOW) != group.exclude:
            return group.exclude, self._bounded({**group.sources, **named})
        rest = {source: end for source, end in group.sources.items() if source not in named}
        return group.exclude, rest

    def _bounded(self, sources: dict[Address, float]) -> dict[Address, float]:
        excess = len(sources) - self._most_sources
        if excess <= 0:
            return sources
        self.refused += excess
        return dict(list(sources.items())[: self._most_sources])

    def handle_timer(self, now: float) -> None:
        """Forget what was not reported for too long (sections 6.2.2 and 6.3; 7.2.2 and 7.2.3)."""
        for address, group in list(self._groups.items()):
            if group.expires() > now:
                continue
            self._filters = None
            if group.exclude:
                # The sources that EXCLUDE would leave as INCLUDE are none: see the module.
                del self._groups[address]
                continue
            group.sources = {source: end for source, end in group.sources.items() if end > now}
            if not group.sources:
                del self._groups[address]

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do, infinity for never."""
        return min((group.expires() for group in self._groups.values()), default=float("inf"))


def _is_void(record: Record) -> bool:
    """Whether a record joins nothing."""
    if record.kind in _TO_EXCLUDE:
        return False
    return record.kind == RecordType.BLOCK or not record.sources
