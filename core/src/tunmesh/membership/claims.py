"""Which node owns which address.

The first live claim to an address is accepted and never displaced. Another claim to it makes its
holder be probed: if it answers, the conflict is reported and the holder keeps the address; if it
does not, it is gone and the claimant has it. So a node that crashed and came back under another
identity has its address again after a second, and a node that claims what another one uses gets
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from tunmesh.membership.events import Conflict, ProbeHolder
from tunmesh.membership.fields import Address, unpack_address
from tunmesh.membership.timing import DirectoryTiming

#: Times of acceptance are thrown away when there are more than this and twice the recent ones.
_ACCEPTED_MIN = 64


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one live node claims.

    Attributes:
        hosts: Packed addresses.
        held_s: For each, for how long it had been held when the claim was signed.
        signed: When that was.
    """

    hosts: tuple[bytes, ...]
    held_s: tuple[float, ...]
    signed: float

    def since(self, host: bytes) -> float:
        """Since when the node has held one of the addresses."""
        return self.signed - self.held_s[self.hosts.index(host)]


class _Contest:
    """An address that more than one live node claims."""

    __slots__ = ("contenders", "due", "pause", "probes", "reported")

    def __init__(self) -> None:
        self.contenders: dict[str, None] = {}
        self.reported: set[str] = set()  # contenders whose conflict with the holder is proven
        self.probes = 0  # sent in this round
        self.due = math.inf  # next probe, end of the round, or next round
        self.pause = 0.0  # before the next round


class Claims:
    """Claims of live nodes, and who holds what.

    Args:
        own_id: This node's id. Its own claims count as accepted only once it has met another
            node, since nobody could object before.
        timing: Intervals.
        emit: Is told what happens.
    """

    def __init__(
        self,
        own_id: str,
        timing: DirectoryTiming,
        emit: Callable[[ProbeHolder | Conflict], None],
    ) -> None:
        self._own_id = own_id
        self._emit = emit
        self._timing = timing
        self._met = math.inf  # when this node first met another one
        self._claims: dict[str, Claim] = {}
        self._holders: dict[bytes, str] = {}
        self._accepted: dict[bytes, float] = {}  # when, for those of late and some older ones
        self._accepted_limit = _ACCEPTED_MIN
        self._contests: dict[bytes, _Contest] = {}
        self._probed: dict[str, set[bytes]] = {}  # holders in a round of probes
        self._doubted: set[str] = set()  # nodes that have left several probes unanswered already

    def owner(self, address: Address) -> str | None:
        """The node that owns an address."""
        return self._holders.get(address.packed)

    def owned(self, node_id: str) -> tuple[Address, ...]:
        """The addresses that a node owns, of those that it claims."""
        claim = self._claims.get(node_id)
        hosts = claim.hosts if claim else ()
        return tuple(unpack_address(host) for host in hosts if self._holders.get(host) == node_id)

    def conflicts(self) -> list[Conflict]:
        """The proven conflicts that last."""
        return [
            self._conflict(host, contender)
            for host, contest in self._contests.items()
            for contender in contest.contenders
            if contender in contest.reported
        ]

    def free(self, address: Address) -> bool:
        """Whether this node may take an address: no other one has it."""
        return self._holders.get(address.packed, self._own_id) == self._own_id

    def leaves(self, address: Address) -> bool:
        """Whether this node, if it can do with another address, should leave this one to others.

        So it should if another one has it. But it may be that each of two takes itself for the
        holder: when two parts of a mesh that were separate meet, or when the ages of the claims
        differ by just as much as makes a difference. Then the one whose claim is younger goes,
        and of claims that are about as old also the one with the larger id: one of them at least.
        """
        host = address.packed
        contest = self._contests.get(host)
        if contest is None:
            return False
        if self._holders[host] != self._own_id:
            return True
        own = self._claims[self._own_id].since(host)
        near = self._timing.simultaneous
        for contender in contest.contenders:
            since = self._claims[contender].since(host)
            if since < own - near or (abs(since - own) < 2 * near and contender < self._own_id):
                return True
        return False

    def met(self, now: float) -> None:
        """This node has a session with another one."""
        self._met = min(self._met, now)

    def update(self, node_id: str, claim: Claim, now: float) -> None:
        """Set what a live node claims."""
        previous = self._claims.get(node_id)
        self._claims[node_id] = claim
        if previous is not None:
            for host in previous.hosts:
                if host not in claim.hosts:
                    self._withdraw(host, node_id, now)
        for host in claim.hosts:
            holder = self._holders.get(host)
            if holder is None:
                self._accept(host, node_id, now)
            elif holder != node_id:
                self._contend(host, holder, node_id, now)

    def drop(self, node_id: str, now: float) -> None:
        """A node is not live any more: its claims are released."""
        self._doubted.discard(node_id)
        claim = self._claims.pop(node_id, None)
        if claim is not None:
            for host in claim.hosts:
                self._withdraw(host, node_id, now)

    def doubt(self, node_id: str) -> None:
        """A node has left several probes of its path unanswered.

        If somebody claims what it holds, it gets only one more. If it claims what somebody else
        holds, as what is left of a process that was started anew, it is gone.
        """
        if node_id in self._claims:
            self._doubted.add(node_id)

    def heard(self, node_id: str, now: float) -> None:
        """Something authentic came from a node itself."""
        self._doubted.discard(node_id)
        for host in self._probed.pop(node_id, ()):
            contest = self._contests[host]
            self._report(host, contest)
            contest.probes = 0
            contest.due = now + contest.pause
            contest.pause = min(2 * contest.pause, self._timing.probe_again_max)

    def handle_timer(self, now: float) -> list[str]:
        """Ask for the probes that are due.

        Returns:
            The nodes that did not answer: they are gone, and the caller drops them.
        """
        gone = self._silent_contenders()
        for host, contest in self._contests.items():
            if contest.due > now:
                continue
            holder = self._holders[host]
            if contest.probes == self._timing.probes:
                gone.add(holder)
                contest.due = math.inf
            else:
                self._probe(host, holder, contest, now)
        return sorted(gone)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        if self._silent_contenders():
            return -math.inf
        return min((contest.due for contest in self._contests.values()), default=math.inf)

    def _silent_contenders(self) -> set[str]:
        if not self._doubted:
            return set()
        return {
            node_id
            for contest in self._contests.values()
            for node_id in contest.contenders
            if node_id in self._doubted
        }

    def _accept(self, host: bytes, node_id: str, now: float) -> None:
        self._holders[host] = node_id
        self._accepted[host] = now
        if len(self._accepted) > self._accepted_limit:
            after = now - self._timing.settle
            self._accepted = {key: at for key, at in self._accepted.items() if at > after}
            self._accepted_limit = 2 * len(self._accepted) + _ACCEPTED_MIN

    def _settled(self, host: bytes, holder: str, now: float) -> bool:
        accepted = self._accepted.get(host, -math.inf)
        if holder == self._own_id:
            accepted = max(accepted, self._met)
        return now - accepted >= self._timing.settle

    def _contend(self, host: bytes, holder: str, claimant: str, now: float) -> None:
        contest = self._contests.get(host)
        if contest is None:
            contest = self._contests[host] = _Contest()
        elif claimant in contest.contenders:
            return
        contest.contenders[claimant] = None
        if not self._settled(host, holder, now) and self._best(host, (holder, claimant)) != holder:
            del contest.contenders[claimant]
            contest.contenders[holder] = None
            self._holders[host] = claimant
            contest.reported.clear()
            self._start(host, contest, now)
        elif holder == self._own_id:
            self._report(host, contest)
        elif host not in self._probed.get(holder, ()):
            self._start(host, contest, now)

    def _start(self, host: bytes, contest: _Contest, now: float) -> None:
        """Find out whether a new or newly doubted holder is alive."""
        self._stop(host)
        holder = self._holders[host]
        contest.probes = self._timing.probes - 1 if holder in self._doubted else 0
        contest.pause = self._timing.probe_again
        contest.due = math.inf
        if holder == self._own_id:
            self._report(host, contest)
        else:
            self._probe(host, holder, contest, now)

    def _probe(self, host: bytes, holder: str, contest: _Contest, now: float) -> None:
        # Each step counts from the one before, not from the first: who wakes up late gives the
        # holder its time to answer all the same.
        self._probed.setdefault(holder, set()).add(host)
        self._emit(ProbeHolder(holder, unpack_address(host)))
        contest.probes += 1
        last = contest.probes == self._timing.probes
        contest.due = now + (self._timing.probe_answer if last else self._timing.probe_interval)

    def _stop(self, host: bytes) -> None:
        """End whatever round of probes runs for an address."""
        for holder, hosts in list(self._probed.items()):
            hosts.discard(host)
            if not hosts:
                del self._probed[holder]

    def _report(self, host: bytes, contest: _Contest) -> None:
        for contender in contest.contenders:
            if contender not in contest.reported:
                contest.reported.add(contender)
                self._emit(self._conflict(host, contender))

    def _conflict(self, host: bytes, contender: str) -> Conflict:
        holder = self._holders[host]
        return Conflict(unpack_address(host), holder, contender, winner=holder)

    def _withdraw(self, host: bytes, node_id: str, now: float) -> None:
        contest = self._contests.get(host)
        if contest is None:
            del self._holders[host]
            return
        if self._holders[host] != node_id:
            del contest.contenders[node_id]
            contest.reported.discard(node_id)
        else:
            heir = self._best(host, contest.contenders)
            del contest.contenders[heir]
            contest.reported.clear()
            self._accept(host, heir, now)
            if contest.contenders:
                self._start(host, contest, now)
        if not contest.contenders:
            self._stop(host)
            del self._contests[host]

    def _best(self, host: bytes, candidates: Iterable[str]) -> str:
        """Of several claimants the one that has held the address for longest."""
        since = {node_id: self._claims[node_id].since(host) for node_id in candidates}
        earliest = min(since.values())
        return min(
            node_id
            for node_id, start in since.items()
            if start - earliest <= self._timing.simultaneous
        )
