"""The directory: every node's record, who is alive, and this node's own record."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from ipaddress import ip_interface
from random import Random
from types import MappingProxyType
from typing import Any

import msgspec

from tunmesh.errors import BadPacket
from tunmesh.identity.keys import NodeKey
from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.events import Added, Changed, Event, Fresh, Reason, Removed, Stale
from tunmesh.membership.exchange import Exchange
from tunmesh.membership.fields import address_untrusted, unpack_address
from tunmesh.membership.messages import Records, decode_message_untrusted
from tunmesh.membership.records import NodeRecord, Profile, RecordVerifier, sign_record
from tunmesh.membership.table import Entry, State, Table
from tunmesh.membership.timing import DirectoryTiming

#: More would not fit the ages of a digest into one message.
_MAX_NODES = 28_000
#: What others heard of a node this much later than its session here ended, it said afterwards.
_LAST_WORDS = 2.0


class Directory:
    """What this node knows of the mesh. Sans-I/O.

    Feed it with `connected`, `disconnected`, `heard`, `receive` and `handle_timer`; after each
    call send `messages_to_send` and act on `next_event` until it is None.

    Args:
        key: This node's key.
        boot_id: Of this process, 16 hexadecimal digits.
        rng: For jitter and the choice of peers.
        profile: What this node says of itself.
        now: The time.
        initial_seq: Sequence number of the first record: milliseconds since the epoch, so that a
            restarted node continues above its former records. If the clock is wrong, the node
            learns its former number from the others.
        timing: Intervals and thresholds.
        verifier: May be shared by directories of one process.
        max_nodes: Records of more nodes are not taken, and counted in `refused`.

    Attributes:
        own: This node's record.
        records: The records of the other nodes that are live or stale, by node id.
        claims: Who owns which address.
        refused: Records that were not taken because there were too many.
    """

    def __init__(
        self,
        key: NodeKey,
        boot_id: str,
        rng: Random,
        *,
        profile: Profile,
        now: float,
        initial_seq: int = 1,
        timing: DirectoryTiming | None = None,
        verifier: RecordVerifier | None = None,
        max_nodes: int = 10_000,
    ) -> None:
        if not 0 < max_nodes <= _MAX_NODES:
            raise ValueError(f"max_nodes must be 1 to {_MAX_NODES}")
        self._key = key
        self._boot_id = boot_id
        self._profile = profile
        self._timing = timing or DirectoryTiming()
        self._verifier = verifier or RecordVerifier()
        self._max_nodes = max_nodes
        self._events: deque[Event] = deque()
        self._records: dict[str, NodeRecord] = {}
        self._table = Table()
        self._parted: dict[str, float] = {}  # peers without a session, and since when
        self._held: dict[bytes, float] = {}  # own addresses, and since when
        self._left = False
        self._seq = initial_seq - 1
        self._reclaim_at = math.inf
        self._reclaimed = -math.inf
        self._sweep_at = math.inf
        self.refused = 0
        self.records: Mapping[str, NodeRecord] = MappingProxyType(self._records)
        self.claims = Claims(key.node_id, self._timing, self._events.append)
        self._exchange = Exchange(self._table, rng, self._timing, max_nodes, now)
        self._own = Entry(self._sign(now), State.LIVE, now, now)
        self._table.put(self._own)
        self._claim(self._own, now)

    @property
    def own(self) -> NodeRecord:
        """This node's record."""
        return self._own.record

    # What the owner does

    def update_own(self, now: float, **changes: Any) -> None:
        """Change fields of the profile, sign a new record and push it to all peers.

        Raises:
            BadPacket: Others would not accept such a record; nothing has changed.
            TypeError: There is no such field.
        """
        previous, self._profile = (
            self._profile,
            msgspec.structs.replace(self._profile, **changes),
        )
        try:
            self._renew(now)
        except BadPacket:
            self._profile = previous
            raise

    def leave(self, now: float) -> None:
        """Say goodbye to all peers."""
        self._left = True
        self._renew(now)

    def connected(self, node_id: str, now: float) -> None:
        """A session with a node is up."""
        self._own.alive = now
        self._parted.pop(node_id, None)
        self.claims.met(now)
        self._exchange.connected(node_id, self.own, now)
        self.heard(node_id, now)
        self._sweep_at = min(self._sweep_at, now + self._timing.stale_local)

    def disconnected(self, node_id: str, now: float) -> None:
        """The session with a node is gone. This says nothing about whether it lives."""
        self._exchange.disconnected(node_id, now)
        if node_id in self._table.entries:
            self._parted[node_id] = now

    def heard(self, node_id: str, now: float) -> None:
        """Something authentic came from a node itself."""
        entry = self._table.entries.get(node_id)
        if entry is None:
            return
        entry.alive = now
        if entry.state is not State.LIVE:
            self._revive(entry, now)
        self.claims.heard(node_id, now)

    def age(self, node_id: str, now: float) -> float:
        """Seconds since a node was last known alive; infinite if it is not known at all."""
        entry = self._table.entries.get(node_id)
        if entry is None:
            return math.inf
        return 0.0 if entry is self._own else now - entry.alive

    def live(self, node_id: str) -> bool:
        """Whether a node is known and not stale."""
        entry = self._table.entries.get(node_id)
        return entry is not None and entry.state is State.LIVE

    def receive(self, node_id: str, data: bytes, now: float) -> None:
        """Take a message from a peer's reliable channel.

        Raises:
            BadPacket: The message, or a record in it, is bad. What was good in it is kept.
        """
        message = decode_message_untrusted(data)
        self._own.alive = now
        self.heard(node_id, now)
        if isinstance(message, Records):
            self._receive_records(node_id, message, now)
        else:
            for entry, alive in self._exchange.receive(node_id, message, now):
                self._known_alive(entry, alive, now)
        if now >= self._exchange.next_deadline():
            self._exchange.handle_timer(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._own.alive = now
        for node_id in self.claims.handle_timer(now):
            self._remove(self._table.entries[node_id], "replaced", now)
        if now >= self._sweep_at:
            self._sweep(now)
        if now >= self._reclaim_at:
            self._reclaim(now)
        self._exchange.handle_timer(now)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        return min(
            self._exchange.next_deadline(),
            self.claims.next_deadline(),
            self._sweep_at,
            self._reclaim_at,
        )

    def messages_to_send(self) -> list[tuple[str, bytes]]:
        """Take what is to be sent: peers and messages, in order."""
        return self._exchange.messages_to_send()

    def next_event(self) -> Event | None:
        """What happened next, or None."""
        return self._events.popleft() if self._events else None

    # The own record

    def _sign(self, now: float) -> NodeRecord:
        hosts = [
            ip_interface(address_untrusted(text)).ip.packed for text in self._profile.addresses
        ]
        held = {host: self._held.get(host, now) for host in hosts}
        record = sign_record(
            self._key,
            self._profile,
            held_s=tuple(round(now - held[host], 3) for host in hosts),
            seq=self._seq + 1,
            boot_id=self._boot_id,
            left=self._left,
        )
        self._seq = record.seq
        self._held = held
        self._verifier.remember(record)
        return record

    def _renew(self, now: float) -> None:
        record = self._sign(now)
        self._own.alive = self._own.signed = now
        self._table.replace(self._own, record)
        self._claim(self._own, now)
        self._exchange.push(record)

    def _own_returned(self, record: NodeRecord, now: float) -> None:
        """Somebody holds a record of this node that is newer than what this process signed."""
        if not record.supersedes(self.own):
            return
        self._seq = max(self._seq, record.seq)
        # Another process with the same key would answer in kind, without end: not too often.
        self._reclaim_at = max(now, self._reclaimed + self._timing.reclaim)
        if now >= self._reclaim_at:
            self._reclaim(now)

    def _reclaim(self, now: float) -> None:
        self._reclaimed = now
        self._reclaim_at = math.inf
        self._renew(now)

    # The others' records

    def _receive_records(self, peer: str, message: Records, now: float) -> None:
        bad: BadPacket | None = None
        for token, age, known in zip(message.tokens, message.ages, message.known, strict=True):
            try:
                record = self._verifier.verify(token)
            except BadPacket as error:
                bad = error
                continue
            self._exchange.arrived(record.node_id)
            if record.node_id == self._key.node_id:
                self._own_returned(record, now)
            elif record.node_id == peer:
                self._learn(record, peer, now, now, now)
            else:
                self._learn(record, peer, now - age, now - known, now)
        if bad is not None:
            raise bad

    def _learn(
        self, record: NodeRecord, source: str, alive: float, signed: float, now: float
    ) -> None:
        """Take a verified record if it is news."""
        entry = self._table.entries.get(record.node_id)
        if entry is None:
            if now - alive >= self._timing.retain:
                return
            if len(self._table.entries) >= self._max_nodes:
                self.refused += 1
                return
            previous = record
            entry = Entry(record, State.LEFT, alive, signed)
            self._table.put(entry)
        elif record.supersedes(entry.record):
            previous = entry.record
            self._table.replace(entry, record)
            entry.alive = max(entry.alive, alive)
            entry.signed = signed
        else:
            return
        self._exchange.announce(record, source, now)
        if record.left:
            self._remove(entry, "left", now)
        elif entry.state is State.LIVE or entry.state is State.STALE:
            self._records[record.node_id] = record
            self._events.append(Changed(record, previous))
            if entry.state is State.LIVE:
                self._claim(entry, now)
            else:
                self._refresh(entry, now)
        elif entry.state is State.LEFT or entry.alive > entry.gone:
            self._add(entry, now)

    def _add(self, entry: Entry, now: float) -> None:
        """A node is there that was not, unless it has been silent for too long."""
        silent = now - entry.alive
        self._sweep_at = min(self._sweep_at, entry.alive + self._timing.stale_local)
        if silent >= self._timing.forget:
            entry.state = State.GONE
            entry.gone = now
            return
        record = entry.record
        self._records[record.node_id] = record
        self._events.append(Added(record))
        if silent < self._timing.stale_mesh:
            entry.state = State.LIVE
            self._claim(entry, now)
        else:
            entry.state = State.STALE
            self._events.append(Stale(record.node_id))

    def _remove(self, entry: Entry, reason: Reason, now: float) -> None:
        """A node is gone. Its record stays, so that all directories hold the same set."""
        node_id = entry.record.node_id
        entry.state = State.LEFT if reason == "left" else State.GONE
        entry.gone = now
        self._parted.pop(node_id, None)
        if self._records.pop(node_id, None) is not None:
            self.claims.drop(node_id, now)
            self._events.append(Removed(node_id, reason))
        self._sweep_at = min(self._sweep_at, entry.alive + self._timing.retain)

    def _claim(self, entry: Entry, now: float) -> None:
        record = entry.record
        claim = Claim(record.hosts, record.held_s, entry.signed)
        self.claims.update(record.node_id, claim, now)

    # Liveness

    def _known_alive(self, entry: Entry, alive: float, now: float) -> None:
        """Another node told that a node was alive more recently than was known here."""
        if entry is self._own:
            return
        entry.alive = alive
        node_id = entry.record.node_id
        if alive > self._parted.get(node_id, math.inf) + _LAST_WORDS:
            del self._parted[node_id]
        if entry.state is not State.LIVE:
            self._revive(entry, now)

    def _revive(self, entry: Entry, now: float) -> None:
        if entry.state is State.STALE:
            self._refresh(entry, now)
        elif entry.state is State.GONE and entry.alive > entry.gone:
            self._add(entry, now)

    def _refresh(self, entry: Entry, now: float) -> None:
        """Bring a stale node back if it is not stale any more."""
        deadline = entry.alive + self._stale_after(entry)
        if now < deadline:
            entry.state = State.LIVE
            self._events.append(Fresh(entry.record.node_id))
            self._claim(entry, now)
            self._sweep_at = min(self._sweep_at, deadline)

    def _stale_after(self, entry: Entry) -> float:
        """The threshold of a node.

        The short one needs a node that talks to us, or did until its session ended. What
        others tell of a node comes late.
        """
        node_id = entry.record.node_id
        if node_id in self._exchange.peers or node_id in self._parted:
            local = [
                interface.network
                for interface in map(ip_interface, self.own.addresses)
                if not interface.is_link_local
            ]
            hosts = [unpack_address(host) for host in entry.record.hosts]
            if any(host in network for host in hosts for network in local):
                return self._timing.stale_local
        return self._timing.stale_mesh

    def _sweep(self, now: float) -> None:
        """Judge all nodes. Signs of life only postpone, so this is needed rarely."""
        self._sweep_at = math.inf
        for entry in list(self._table.entries.values()):
            if entry is not self._own:
                self._sweep_at = min(self._sweep_at, self._judge(entry, now))

    def _judge(self, entry: Entry, now: float) -> float:
        """Judge one node; returns when to look at it again."""
        node_id = entry.record.node_id
        if entry.state is State.LIVE:
            deadline = entry.alive + self._stale_after(entry)
            if now < deadline:
                return deadline
            entry.state = State.STALE
            self.claims.drop(node_id, now)
            self._events.append(Stale(node_id))
        if entry.state is State.STALE:
            deadline = entry.alive + self._timing.forget
            if now < deadline:
                return deadline
            self._remove(entry, "stale", now)
        deadline = entry.alive + self._timing.retain
        if now < deadline:
            return deadline
        self._table.remove(node_id)
        self._parted.pop(node_id, None)
        return math.inf
