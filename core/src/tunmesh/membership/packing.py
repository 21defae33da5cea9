"""Entries of the table as they stand in messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunmesh.membership.messages import BUCKETS, MAX_MESSAGE, NO_AGE, Listing, Records
from tunmesh.membership.records import SUMMARY
from tunmesh.membership.table import Entry, State, Table

#: Summaries with their ages that one message holds, with room for its framing.
MOST_LISTED = (MAX_MESSAGE - BUCKETS - 64) // (SUMMARY + 1)

_RECORDS = MAX_MESSAGE - 64
#: Bytes that a record in `Records` needs besides its token: three lengths or numbers.
_RECORD_FRAMING = 5 + 5 + 5


def age(entry: Entry, now: float) -> int:
    """How long ago a node was known alive, as others are told.

    Rounded up and one second more: an age that travels in circles must grow, however long the
    messages take, or else a dead node would live for ever.
    """
    return max(0, int(now - entry.alive) + 2)


def ages(entries: Iterable[Entry], now: float) -> bytes:
    """One byte for each entry."""
    live, stale = State.LIVE, State.STALE
    return bytes(
        [
            min(int(now - entry.alive) + 2, NO_AGE)
            if entry.state is live or entry.state is stale
            else NO_AGE
            for entry in entries
        ]
    )


def younger(entries: Iterable[Entry], told: bytes, now: float) -> list[tuple[Entry, float]]:
    """The entries of which ages tell something better than is known, by more than a second."""
    return [
        (entry, now - age)
        for entry, age in zip(entries, told, strict=True)
        if age < NO_AGE and now - age > entry.alive + 1
    ]


def records(entries: Iterable[Entry], now: float) -> Iterator[Records]:
    """Messages with the records of some entries."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        needed = len(entry.record.token) + _RECORD_FRAMING
        if batch and size + needed > _RECORDS:
            yield _records(batch, now)
            batch, size = [], 0
        batch.append(entry)
        size += needed
    if batch:
        yield _records(batch, now)


def listings(table: Table, buckets: Iterable[int], now: float) -> Iterator[Listing]:
    """Messages that list all of some buckets."""
    by_bucket: dict[int, list[Entry]] = {bucket: [] for bucket in buckets}
    for entry in table.in_buckets(by_bucket):
        by_bucket[entry.record.summary[0]].append(entry)
    complete = bytearray()
    entries: list[Entry] = []
    for bucket, part in by_bucket.items():
        if len(part) > MOST_LISTED:
            # Too many for one message: none of its messages is complete, so the other side
            # learns from them and tells nothing.
            for start in range(0, len(part), MOST_LISTED):
                yield _listing(part[start : start + MOST_LISTED], b"", now)
            continue
        if len(entries) + len(part) > MOST_LISTED:
            yield _listing(entries, complete, now)
            entries, complete = [], bytearray()
        complete.append(bucket)
        entries += part
    if complete:
        yield _listing(entries, complete, now)


def announcements(summaries: list[bytes]) -> Iterator[Listing]:
    """Messages that name some records."""
    for start in range(0, len(summaries), MOST_LISTED):
        yield Listing(b"".join(summaries[start : start + MOST_LISTED]))


def _records(entries: list[Entry], now: float) -> Records:
    return Records(
        [entry.record.token for entry in entries],
        [age(entry, now) for entry in entries],
        [max(0, int(now - entry.signed)) for entry in entries],
    )


def _listing(entries: list[Entry], complete: bytes | bytearray, now: float) -> Listing:
    summaries = b"".join([entry.record.summary for entry in entries])
    return Listing(summaries, bytes(complete), ages(entries, now))
