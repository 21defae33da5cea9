"""The directory: every node's record, who is alive, and this node's own record."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Any

from tunmesh.errors import BadPacket
from tunmesh.identity.keys import NodeKey
from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.events import Event
from tunmesh.membership.exchange import Exchange
from tunmesh.membership.members import Members
from tunmesh.membership.messages import Records, decode_message_untrusted
from tunmesh.membership.own import OwnRecord
from tunmesh.membership.records import NodeRecord, Profile, RecordVerifier
from tunmesh.membership.table import Entry, State, Table
from tunmesh.membership.timing import DirectoryTiming

#: More would not fit the ages of a digest into one message.
_MAX_NODES = 28_000


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
        timing = timing or DirectoryTiming()
        self._verifier = verifier or RecordVerifier()
        self._events: deque[Event] = deque()
        self._signer = OwnRecord(
            key, boot_id, profile, now=now, initial_seq=initial_seq, reclaim=timing.reclaim
        )
        self._table = Table()
        self._own = Entry(self._signer.record, State.LIVE, now, now)
        self._table.put(self._own)
        emit = self._events.append
        self.claims = Claims(key.node_id, timing, emit)
        self._members = Members(self._table, self._signer, self.claims, timing, max_nodes, emit)
        self._exchange = Exchange(self._table, rng, timing, max_nodes, now, self._is_local)
        self.records: Mapping[str, NodeRecord] = MappingProxyType(self._members.records)
        self._claim_own(now)

    @property
    def own(self) -> NodeRecord:
        """This node's record."""
        return self._own.record

    @property
    def refused(self) -> int:
        """Records that were not taken because there were too many."""
        return self._members.refused

    def update_own(self, now: float, **changes: Any) -> None:
        """Change fields of the profile, sign a new record and push it to all peers.

        Raises:
            BadPacket: Others would not accept such a record; nothing has changed.
            TypeError: There is no such field.
        """
        self._signer.update(changes, now)
        self._publish(now)

    def timing_changed(self, now: float) -> None:
        """The thresholds are others now: judge every node again."""
        self._members.deadline = now

    def leave(self, now: float) -> None:
        """Say goodbye to all peers."""
        self._signer.leave(now)
        self._publish(now)

    def connected(self, node_id: str, now: float) -> None:
        """A session with a node is up."""
        self._own.alive = now
        self.claims.met(now)
        self._members.connected(node_id, now)
        self._exchange.connected(node_id, self.own, now, self._own.signed)
        self.heard(node_id, now)

    def disconnected(self, node_id: str, now: float) -> None:
        """The session with a node is gone. This says nothing about whether it lives."""
        self._members.disconnected(node_id, now)
        self._exchange.disconnected(node_id, now)

    def heard(self, node_id: str, now: float) -> None:
        """Something authentic came from a node itself."""
        entry = self._table.entries.get(node_id)
        if entry is not None:
            self._members.heard(entry, now)
            self.claims.heard(node_id, now)

    def doubted(self, node_id: str) -> None:
        """A node has left several probes unanswered, in a row."""
        self.claims.doubt(node_id)

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
                if entry is not self._own:
                    self._members.heard_of(entry, alive, now)
        if now >= self._exchange.next_deadline():
            self._exchange.handle_timer(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._own.alive = now
        for node_id in self.claims.handle_timer(now):
            self._members.replaced(node_id, now)
        self._members.handle_timer(now)
        if now >= self._signer.reclaim_at:
            self._reclaim(now)
        self._exchange.handle_timer(now)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        return min(
            self._exchange.next_deadline(),
            self.claims.next_deadline(),
            self._members.deadline,
            self._signer.reclaim_at,
        )

    def messages_to_send(self) -> list[tuple[str, bytes]]:
        """Take what is to be sent: peers and messages, in order."""
        return self._exchange.messages_to_send()

    def next_event(self) -> Event | None:
        """What happened next, or None."""
        return self._events.popleft() if self._events else None

    def _receive_records(self, peer: str, message: Records, now: float) -> None:
        bad: BadPacket | None = None
        for token, age, known in zip(message.tokens, message.ages, message.known, strict=True):
            try:
                record = self._verifier.verify(token)
            except BadPacket as error:
                bad = error
                continue
            node_id = record.node_id
            self._exchange.arrived(node_id)
            if node_id == self.own.node_id:
                self._signer.returned(record, now)
                continue
            alive = now if node_id == peer else now - age
            news = self._members.learn(record, alive, now - known, now)
            if news:
                self._exchange.announce(record, peer, now)
        if now >= self._signer.reclaim_at:
            self._reclaim(now)
        if bad is not None:
            raise bad

    def _is_local(self, node_id: str) -> bool:
        entry = self._table.entries.get(node_id)
        return entry is not None and self._signer.is_local(entry.record)

    def _reclaim(self, now: float) -> None:
        self._signer.reclaim(now)
        self._publish(now)

    def _publish(self, now: float) -> None:
        record = self._signer.record
        self._own.alive = self._own.signed = now
        self._table.replace(self._own, record)
        self._claim_own(now)
        self._exchange.push(record)

    def _claim_own(self, now: float) -> None:
        record = self.own
        self._verifier.remember(record)
        self.claims.update(record.node_id, Claim(record.hosts, record.held_s, now), now)
