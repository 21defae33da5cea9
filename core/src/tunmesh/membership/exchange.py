"""How records spread: announcements of what is new, and digests that find what was missed.

Any message may be lost: what an announcement missed, a later digest finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random
from struct import iter_unpack

from tunmesh.membership import packing
from tunmesh.membership.messages import (
    BUCKETS,
    MAX_MESSAGE,
    NODE_ID,
    Buckets,
    Digest,
    Listing,
    Message,
    Records,
    Want,
    encode_message,
    unpack_counts,
)
from tunmesh.membership.records import SUMMARY, NodeRecord
from tunmesh.membership.table import Entry, Table
from tunmesh.membership.timing import DirectoryTiming

#: Node ids that one message holds, with room for its framing.
_MOST_WANTED = (MAX_MESSAGE - 64) // NODE_ID
#: A table of no more entries is listed at once, without the step by buckets.
_SMALL = 64


class Exchange:
    """The messages of one directory.

    Args:
        table: What is known; the exchange reads it only.
        rng: Chooses peers and moments.
        timing: Intervals.
        max_nodes: Unknown nodes are not asked for when the table has that many entries.
        now: The time.
        is_local: Whether a peer is in this node's own subnet. All are, unless told.

    Attributes:
        peers: The nodes with which there is a session, and when they were sent a digest.
    """

    def __init__(
        self,
        table: Table,
        rng: Random,
        timing: DirectoryTiming,
        max_nodes: int,
        now: float,
        is_local: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.peers: dict[str, float] = {}
        self._is_local = is_local
        self._doubt = False  # something got lost: distant peers are asked, too
        self._table = table
        self._rng = rng
        self._timing = timing
        self._max_nodes = max_nodes
        self._outbox: list[tuple[str, bytes]] = []
        self._news: dict[bytes, set[str]] = {}  # summary: peers that know of it
        self._flush_at = math.inf
        self._flushed = -math.inf
        self._wants: dict[str, tuple[str, float]] = {}  # node id: asked whom, until when
        self._digest_at = self._next_digest(now)
        self._digested = -math.inf

    def messages_to_send(self) -> list[tuple[str, bytes]]:
        """Take what is to be sent: peers and messages, in order."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        return min(self._digest_at, self._flush_at, self._oldest_want())

    def handle_timer(self, now: float) -> None:
        """Announce and send digests as they are due."""
        if now >= self._flush_at:
            self._flush(now)
        if now >= self._oldest_want():
            # Something got lost: compare again, soon.
            self._wants = {key: want for key, want in self._wants.items() if want[1] > now}
            self._hasten(now)
        if now >= self._digest_at:
            self._digest_at = self._next_digest(now)
            self._digested = now
            peers = [peer for peer in self._some_peers() if self._due(peer, now)]
            self._doubt = False
            self.peers.update(dict.fromkeys(peers, now))
            self._send(peers, self._digest(now))

    def connected(self, peer: str, own: NodeRecord, now: float, since: float | None = None) -> None:
        """Introduce this node to a peer. One of the two begins to compare.

        Args:
            peer: The peer.
            own: This node's record.
            now: The time.
            since: When the record was signed, if not now.
        """
        self.peers[peer] = now
        known = 0 if since is None else max(0, int(now - since))
        self._send((peer,), Records([own.token], [0], [known]))
        if own.node_id < peer:
            self._send((peer,), self._digest(now))

    def disconnected(self, peer: str, now: float) -> None:
        """A session is gone, and what was asked for through it will not come."""
        self.peers.pop(peer, None)
        lost = [node_id for node_id, want in self._wants.items() if want[0] == peer]
        for node_id in lost:
            del self._wants[node_id]
        if lost:
            self._hasten(now)

    def push(self, own: NodeRecord) -> None:
        """Send this node's own new record to all peers."""
        self._send(self.peers, Records([own.token], [0], [0]))

    def arrived(self, node_id: str) -> None:
        """A record came, wanted or not."""
        self._wants.pop(node_id, None)

    def announce(self, record: NodeRecord, source: str, now: float) -> None:
        """Tell the peers, except where it came from, that there is a new record."""
        self._news[record.summary] = {source}
        if self._flush_at == math.inf:
            self._flush_at = max(now, self._flushed + self._timing.gather)

    def receive(
        self, peer: str, message: Digest | Buckets | Listing | Want, now: float
    ) -> list[tuple[Entry, float]]:
        """Answer a message.

        Returns:
            Entries of nodes that are known alive more recently than was known here, and when.
        """
        if isinstance(message, Digest):
            return self._on_digest(peer, message, now)
        if isinstance(message, Buckets):
            return self._on_buckets(peer, message, now)
        if isinstance(message, Listing):
            return self._on_listing(peer, message, now)
        self._on_want(peer, message, now)
        return []

    def _on_digest(self, peer: str, digest: Digest, now: float) -> list[tuple[Entry, float]]:
        table = self._table
        if digest.fingerprint == table.digest() and digest.count == len(table.entries):
            return packing.younger(table.ordered(), digest.ages, now)
        # The buckets of one that knows little would all differ.
        if len(table.entries) <= _SMALL or 2 * digest.count <= len(table.entries):
            self._list(peer, range(BUCKETS), now)
        else:
            fingerprints, counts = table.buckets()
            self._send((peer,), Buckets(fingerprints, counts, packing.ages(table.ordered(), now)))
        return []

    def _on_buckets(self, peer: str, buckets: Buckets, now: float) -> list[tuple[Entry, float]]:
        fingerprints, counts = self._table.buckets()
        mine, theirs = unpack_counts(counts), unpack_counts(buckets.counts)
        ordered = self._table.ordered()
        differing: list[int] = []
        younger: list[tuple[Entry, float]] = []
        here = there = 0
        for bucket in range(BUCKETS):
            part = slice(8 * bucket, 8 * bucket + 8)
            if fingerprints[part] != buckets.fingerprints[part] or mine[bucket] != theirs[bucket]:
                differing.append(bucket)
            else:
                ages = buckets.ages[there : there + theirs[bucket]]
                younger += packing.younger(ordered[here : here + mine[bucket]], ages, now)
            here += mine[bucket]
            there += theirs[bucket]
        self._list(peer, differing, now)
        return younger

    def _on_listing(self, peer: str, listing: Listing, now: float) -> list[tuple[Entry, float]]:
        known, news, entries = self._table.summaries, self._news, self._table.entries
        other: list[bytes] = []
        for (summary,) in iter_unpack(f"{SUMMARY}s", listing.summaries):
            if summary not in known:
                other.append(summary)
            elif summary in news:
                news[summary].add(peer)
        newer: dict[str, None] = {}
        lacking: list[bytes] = []  # on the other side
        for summary in other:
            node_id = summary[:NODE_ID].hex()
            entry = entries.get(node_id)
            # Of one node, so compared by what follows the id: number, then fingerprint.
            if entry is None or entry.record.summary < summary:
                newer[node_id] = None
            elif not listing.complete:
                lacking.append(entry.record.summary)
        if listing.complete:
            told = {summary for (summary,) in iter_unpack(f"{SUMMARY}s", listing.summaries)}
            lacking = [
                entry.record.summary
                for entry in self._table.in_buckets(listing.complete)
                if entry.record.summary not in told and entry.record.node_id not in newer
            ]
        self._want(peer, newer, now)
        for message in packing.announcements(lacking):
            self._send((peer,), message)
        return self._younger_listed(listing, now)

    def _younger_listed(self, listing: Listing, now: float) -> list[tuple[Entry, float]]:
        if not listing.ages:
            return []
        entries: list[Entry] = []
        ages = bytearray()
        for position, age in enumerate(listing.ages):
            start = position * SUMMARY
            entry = self._table.entries.get(listing.summaries[start : start + NODE_ID].hex())
            if entry is not None:
                entries.append(entry)
                ages.append(age)
        return packing.younger(entries, bytes(ages), now)

    def _want(self, peer: str, node_ids: Iterable[str], now: float) -> None:
        """Ask for records, unless somebody else has just been asked."""
        wants, entries = self._wants, self._table.entries
        until = now + self._timing.want_timeout
        asked: list[str] = []
        for node_id in node_ids:
            if node_id in wants and wants[node_id][1] > now:
                continue
            full = len(entries) >= self._max_nodes and node_id not in entries
            if full or len(wants) >= self._max_nodes:
                continue
            wants.pop(node_id, None)  # so that the oldest stays the first
            wants[node_id] = (peer, until)
            asked.append(node_id)
        for start in range(0, len(asked), _MOST_WANTED):
            part = asked[start : start + _MOST_WANTED]
            self._send((peer,), Want(bytes.fromhex("".join(part))))

    def _on_want(self, peer: str, want: Want, now: float) -> None:
        entries: dict[str, Entry] = {}
        for (raw,) in iter_unpack(f"{NODE_ID}s", want.node_ids):
            node_id = raw.hex()
            entry = self._table.entries.get(node_id)
            if entry is not None:
                entries[node_id] = entry
        for message in packing.records(entries.values(), now):
            self._send((peer,), message)

    def _list(self, peer: str, buckets: Iterable[int], now: float) -> None:
        for message in packing.listings(self._table, buckets, now):
            self._send((peer,), message)

    def _digest(self, now: float) -> Digest:
        ordered = self._table.ordered()
        return Digest(self._table.digest(), len(ordered), packing.ages(ordered, now))

    def _flush(self, now: float) -> None:
        self._flush_at = math.inf
        self._flushed = now
        news, self._news = self._news, {}
        current = [(s, told) for s, told in news.items() if s in self._table.summaries]
        for peer in self._some_peers():
            summaries = [summary for summary, told in current if peer not in told]
            for message in packing.announcements(summaries):
                self._send((peer,), message)

    def _some_peers(self) -> list[str]:
        peers = list(self.peers)
        fan_out = self._timing.fan_out
        return peers if len(peers) <= fan_out else self._rng.sample(peers, fan_out)

    def _due(self, peer: str, now: float) -> bool:
        """Whether a peer is to be sent a digest: one of another subnet not each time."""
        distant = not self._doubt and not self._is_local(peer)
        return not distant or now >= self.peers[peer] + self._timing.digest_mesh

    def _hasten(self, now: float) -> None:
        self._doubt = True
        soon = max(now, self._digested + self._timing.want_timeout)
        self._digest_at = min(self._digest_at, soon)

    def _oldest_want(self) -> float:
        return next(iter(self._wants.values()))[1] if self._wants else math.inf

    def _next_digest(self, now: float) -> float:
        return now + self._rng.uniform(self._timing.digest_min, self._timing.digest_max)

    def _send(self, peers: Iterable[str], message: Message) -> None:
        data = encode_message(message)
        self._outbox += [(peer, data) for peer in peers]
