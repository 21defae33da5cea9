"""The records that a directory knows, and the hashes over them that digests are made of.

The table also holds the records of nodes that left or were forgotten, so that all directories
hold the same set although each judges liveness for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from tunmesh.membership.messages import BUCKETS, pack_counts
from tunmesh.membership.records import NodeRecord


class State(Enum):
    """What a directory thinks of a node."""

    LIVE = auto()
    STALE = auto()  # silent for long: its addresses are released
    GONE = auto()  # forgotten or replaced; a sign of life brings it back
    LEFT = auto()  # said goodbye; only a newer record brings it back


class Entry:
    """One node.

    Attributes:
        record: Its newest record.
        state: What is thought of it.
        alive: When it was last known alive.
        signed: When, as far as known, the record was signed.
        gone: When it went into the state GONE.
    """

    __slots__ = ("alive", "gone", "record", "signed", "state")

    def __init__(self, record: NodeRecord, state: State, alive: float, signed: float) -> None:
        self.record = record
        self.state = state
        self.alive = alive
        self.signed = signed
        self.gone = alive


class Table:
    """Entries by node id.

    Attributes:
        entries: The entries; changed through `put` and `remove` only.
        summaries: The summaries of all records.
        fingerprint: Exclusive or of all records' fingerprints: equal tables have equal ones.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.summaries: set[bytes] = set()
        self.fingerprint = 0
        self._ordered: list[Entry] | None = None

    def put(self, entry: Entry) -> None:
        """Add an entry."""
        record = entry.record
        self.entries[record.node_id] = entry
        self.fingerprint ^= record.fingerprint
        self.summaries.add(record.summary)
        self._ordered = None

    def replace(self, entry: Entry, record: NodeRecord) -> None:
        """Give an entry a newer record."""
        self._forget(entry.record)
        entry.record = record
        self.fingerprint ^= record.fingerprint
        self.summaries.add(record.summary)

    def remove(self, node_id: str) -> None:
        """Remove an entry."""
        self._forget(self.entries.pop(node_id).record)
        self._ordered = None

    def digest(self) -> bytes:
        """The fingerprint, as it stands in a message."""
        return self.fingerprint.to_bytes(16, "big")

    def ordered(self) -> list[Entry]:
        """All entries by node id."""
        if self._ordered is None:
            self._ordered = [self.entries[node_id] for node_id in sorted(self.entries)]
        return self._ordered

    def in_buckets(self, buckets: Iterable[int]) -> list[Entry]:
        """The entries in some buckets, by node id."""
        wanted = set(buckets)
        if len(wanted) == BUCKETS:
            return self.ordered()
        return [entry for entry in self.ordered() if entry.record.summary[0] in wanted]

    def buckets(self) -> tuple[bytes, bytes]:
        """The first eight bytes of each bucket's fingerprint, and its count of records."""
        fingerprints = [0] * BUCKETS
        counts = [0] * BUCKETS
        for entry in self.entries.values():
            record = entry.record
            fingerprints[record.summary[0]] ^= record.fingerprint
            counts[record.summary[0]] += 1
        parts = b"".join((value >> 64).to_bytes(8, "big") for value in fingerprints)
        return parts, pack_counts(counts)

    def _forget(self, record: NodeRecord) -> None:
        self.fingerprint ^= record.fingerprint
        self.summaries.discard(record.summary)
