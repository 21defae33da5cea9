"""The other nodes: which are there, which are silent, which are gone.

Liveness is this node's own judgement on its own clock: what it heard, and what others heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.events import Added, Changed, Event, Fresh, Reason, Removed, Stale
from tunmesh.membership.own import OwnRecord
from tunmesh.membership.records import NodeRecord
from tunmesh.membership.table import Entry, State, Table
from tunmesh.membership.timing import DirectoryTiming

#: What others heard of a node this much later than its session here ended, it said afterwards.
_LAST_WORDS = 2.0


class Members:
    """Judges the entries of a table.

    Args:
        table: All records, also this node's own.
        own: This node's record.
        claims: Kept in step: live nodes claim, others do not.
        timing: Thresholds.
        max_nodes: Most entries of the table.
        emit: Is told what happens.

    Attributes:
        records: Of the nodes that are live or stale, by node id.
        refused: Records that were not taken because there were too many.
        deadline: When `handle_timer` has something to do.
    """

    def __init__(
        self,
        table: Table,
        own: OwnRecord,
        claims: Claims,
        timing: DirectoryTiming,
        max_nodes: int,
        emit: Callable[[Event], None],
    ) -> None:
        self.records: dict[str, NodeRecord] = {}
        self.refused = 0
        self.deadline = math.inf
        self._table = table
        self._own = own
        self._claims = claims
        self._timing = timing
        self._max_nodes = max_nodes
        self._emit = emit
        # Peers, and when their session ended: infinite while it lasts, absent for strangers.
        self._sessions: dict[str, float] = {}

    def connected(self, node_id: str, now: float) -> None:
        """A session with a node is up."""
        self._sessions[node_id] = math.inf
        self._wake(now + self._timing.stale_local)

    def disconnected(self, node_id: str, now: float) -> None:
        """The session with a node is gone. This says nothing about whether it lives."""
        if node_id in self.records:
            self._sessions[node_id] = now
        else:
            self._sessions.pop(node_id, None)

    def heard(self, entry: Entry, now: float) -> None:
        """Something authentic came from a node itself."""
        entry.alive = now
        if entry.state is not State.LIVE:
            self._revive(entry, now)

    def heard_of(self, entry: Entry, alive: float, now: float) -> None:
        """Another node told when a node was alive."""
        if alive <= entry.alive:
            return
        entry.alive = alive
        node_id = entry.record.node_id
        if alive > self._sessions.get(node_id, math.inf) + _LAST_WORDS:
            del self._sessions[node_id]
        if entry.state is not State.LIVE:
            self._revive(entry, now)

    def learn(self, record: NodeRecord, alive: float, signed: float, now: float) -> bool:
        """Take a verified record of another node.

        Args:
            record: The record.
            alive: When the node was last known alive.
            signed: When the record was signed.
            now: The time.

        Returns:
            Whether it was news.
        """
        entry = self._table.entries.get(record.node_id)
        if entry is None:
            if now - alive >= self._timing.retain:
                return False
            if len(self._table.entries) >= self._max_nodes:
                self.refused += 1
                return False
            entry = Entry(record, State.LEFT, alive, signed)
            self._table.put(entry)
        elif record.supersedes(entry.record):
            if entry.state is State.LIVE or entry.state is State.STALE:
                self._emit(Changed(record, entry.record))
            self._table.replace(entry, record)
            entry.alive = max(entry.alive, alive)
            entry.signed = signed
        else:
            return False
        if record.left:
            self._remove(entry, "left", now)
        elif entry.state is State.LEFT:
            self._add(entry, now)
        else:
            if record.node_id in self.records:
                self.records[record.node_id] = record
            if entry.state is State.LIVE:
                self._claim(entry, now)
            else:
                self._revive(entry, now)
        return True

    def replaced(self, node_id: str, now: float) -> None:
        """A node did not answer while another one claimed its address."""
        self._remove(self._table.entries[node_id], "replaced", now)

    def handle_timer(self, now: float) -> None:
        """Judge all nodes. Signs of life only postpone, so this is needed rarely."""
        if now < self.deadline:
            return
        self.deadline = math.inf
        for node_id, entry in list(self._table.entries.items()):
            if node_id != self._own.record.node_id:
                self._wake(self._judge(entry, now))

    def _judge(self, entry: Entry, now: float) -> float:
        """Judge one node; returns when to look at it again."""
        node_id = entry.record.node_id
        if entry.state is State.LIVE:
            deadline = entry.alive + self._stale_after(entry)
            if now < deadline:
                return deadline
            entry.state = State.STALE
            self._claims.drop(node_id, now)
            self._emit(Stale(node_id))
        if entry.state is State.STALE:
            deadline = entry.alive + self._timing.forget
            if now < deadline:
                return deadline
            self._remove(entry, "stale", now)
        deadline = entry.alive + self._timing.retain
        if now < deadline:
            return deadline
        self._table.remove(node_id)
        return math.inf

    def _add(self, entry: Entry, now: float) -> None:
        """A node is there that was not, unless it has been silent for too long."""
        silent = now - entry.alive
        self._wake(entry.alive + self._timing.stale_local)
        if silent >= self._timing.forget:
            entry.state = State.GONE
            entry.gone = now
            return
        record = entry.record
        self.records[record.node_id] = record
        self._emit(Added(record))
        if silent < self._timing.stale_mesh:
            entry.state = State.LIVE
            self._claim(entry, now)
        else:
            entry.state = State.STALE
            self._emit(Stale(record.node_id))

    def _remove(self, entry: Entry, reason: Reason, now: float) -> None:
        """A node is gone. Its record stays, so that all directories hold the same set."""
        node_id = entry.record.node_id
        entry.state = State.LEFT if reason == "left" else State.GONE
        entry.gone = now
        if self._sessions.get(node_id, math.inf) < math.inf:
            del self._sessions[node_id]
        if self.records.pop(node_id, None) is not None:
            self._claims.drop(node_id, now)
            self._emit(Removed(node_id, reason))
        self._wake(entry.alive + self._timing.retain)

    def _revive(self, entry: Entry, now: float) -> None:
        """Bring a node back that has shown life since it was stale or gone."""
        if entry.state is State.STALE:
            deadline = entry.alive + self._stale_after(entry)
            if now < deadline:
                entry.state = State.LIVE
                self._emit(Fresh(entry.record.node_id))
                self._claim(entry, now)
                self._wake(deadline)
        elif entry.state is State.GONE and entry.alive > entry.gone:
            self._add(entry, now)

    def _claim(self, entry: Entry, now: float) -> None:
        record = entry.record
        claim = Claim(record.hosts, record.held_s, entry.signed)
        self._claims.update(record.node_id, claim, now)

    def _stale_after(self, entry: Entry) -> float:
        """The threshold of a node.

        The short one needs a node that talks to us, or did until its session ended. What
        others tell of a node comes late.
        """
        if entry.record.node_id in self._sessions and self._own.is_local(entry.record):
            return self._timing.stale_local
        return self._timing.stale_mesh

    def _wake(self, when: float) -> None:
        self.deadline = min(self.deadline, when)
