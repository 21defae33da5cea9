from __future__ import annotations

import math
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.events import Conflict, ProbeHolder
from tunmesh.membership.timing import DirectoryTiming

TIMING = DirectoryTiming()
ADDRESS = ip_address("10.0.0.1")
OTHER = ip_address("fd00::1")
ME = "me"


class Arena:
    """Claims, and what they emitted."""

    def __init__(self) -> None:
        self.events: list[ProbeHolder | Conflict] = []
        self.claims = Claims(ME, TIMING, self.events.append)

    def claim(self, node: str, now: float, held: float = 0.0, *addresses: str) -> None:
        hosts = tuple(ip_address(text).packed for text in addresses or (str(ADDRESS),))
        self.claims.update(node, Claim(hosts, (held,) * len(hosts), now), now)

    def probes(self) -> int:
        return sum(isinstance(event, ProbeHolder) for event in self.events)

    def conflicts(self) -> list[tuple[str, str]]:
        return [(e.holder, e.claimant) for e in self.events if isinstance(e, Conflict)]

    def run(self, now: float, until: float, answering: frozenset[str] = frozenset()) -> list[str]:
        """Serve the timer; holders in `answering` answer each probe at once."""
        gone: list[str] = []
        self._answer(now, answering)
        while (deadline := self.claims.next_deadline()) <= until:
            gone += (lost := self.claims.handle_timer(deadline))
            for node in lost:
                self.claims.drop(node, deadline)
            self._answer(deadline, answering)
        return gone

    def _answer(self, now: float, answering: frozenset[str]) -> None:
        for event in list(self.events):
            if isinstance(event, ProbeHolder) and event.node_id in answering:
                self.claims.heard(event.node_id, now)


def test_first_claim_is_accepted_and_released() -> None:
    arena = Arena()
    arena.claim("a", 10.0, 0.0, "10.0.0.1", "fd00::1")
    assert arena.claims.owner(ADDRESS) == "a"
    assert arena.claims.owned("a") == (ADDRESS, OTHER)
    assert arena.claims.owned("b") == ()
    arena.claim("a", 11.0, 0.0, "fd00::1")
    assert arena.claims.owner(ADDRESS) is None
    arena.claims.drop("a", 12.0)
    assert arena.claims.owner(OTHER) is None
    assert arena.claims.next_deadline() == math.inf
    assert arena.events == []


def test_holder_that_is_silent_already_gets_one_more_probe() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claims.doubt("a")
    arena.claim("b", 20.0)
    assert arena.run(20.0, 20.39) == []
    assert arena.probes() == 1
    assert arena.run(20.39, 20.41) == ["a"]
    assert arena.claims.owner(ADDRESS) == "b"


def test_doubts_end_when_the_holder_is_heard_or_gone() -> None:
    arena = Arena()
    arena.claims.doubt("a")  # claims nothing
    arena.claim("a", 10.0)
    arena.claims.doubt("a")
    arena.claims.heard("a", 15.0)
    arena.claim("b", 20.0)
    assert arena.run(20.0, 20.9) == []
    assert arena.probes() == 3
    assert arena.run(20.9, 21.1) == ["a"]


def test_claimant_that_is_silent_is_gone() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    assert arena.run(20.0, 20.5, frozenset("a")) == []
    assert arena.conflicts() == [("a", "b")]
    arena.claims.doubt("b")
    assert arena.run(20.5, 20.5, frozenset("a")) == ["b"]
    assert arena.claims.conflicts() == []
    assert arena.claims.owner(ADDRESS) == "a"
    assert arena.claims.next_deadline() == math.inf


def test_silent_holder_is_gone_after_three_probes_and_a_second() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    assert arena.claims.owner(ADDRESS) == "a"
    times = []
    now = 20.0
    while not (gone := arena.claims.handle_timer(now)):
        times.append((round(now, 6), arena.probes()))
        now = arena.claims.next_deadline()
    assert times == [(20.0, 1), (20.3, 2), (20.6, 3)]
    assert round(now, 6) == 21.0
    assert gone == ["a"]
    arena.claims.drop("a", now)
    assert arena.claims.owner(ADDRESS) == "b"
    assert arena.claims.conflicts() == []
    assert arena.claims.next_deadline() == math.inf


def test_answering_holder_is_never_displaced_however_long_the_other_says_it_held() -> None:
    arena = Arena()
    arena.claim("b", 10.0)
    arena.claim("a", 20.0, 1e9)
    assert arena.run(20.0, 10_000.0, frozenset({"b"})) == []
    assert arena.claims.owner(ADDRESS) == "b"
    assert arena.conflicts() == [("b", "a")]
    assert arena.claims.conflicts() == [Conflict(ADDRESS, "b", "a", "b")]
    assert arena.probes() < 10_000 / TIMING.probe_again_max + 20
    arena.claims.drop("b", 10_000.0)
    assert arena.claims.owner(ADDRESS) == "a"
    assert arena.claims.conflicts() == []


def test_last_words_of_a_dead_holder_do_not_save_it_for_long() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    arena.claims.heard("a", 20.01)
    assert arena.run(20.01, 22.1) == ["a"]
    assert arena.claims.owner(ADDRESS) == "b"


def test_a_late_timer_still_gives_the_holder_its_time() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    assert arena.claims.handle_timer(50.0) == []
    assert arena.claims.handle_timer(50.3) == []
    assert arena.claims.next_deadline() == 50.3 + TIMING.probe_answer


def test_two_at_once_the_longer_held_wins() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        arena = Arena()
        held = {"a": 5.0, "b": 100.0}
        arena.claim(first, 10.0, held[first])
        arena.claim(second, 10.5, held[second])
        assert arena.claims.owner(ADDRESS) == "b"
        arena.run(10.5, 15.0, frozenset({"a", "b"}))
        assert arena.conflicts() == [("b", "a")]


def test_two_at_once_and_equally_old_the_smaller_id_wins() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        arena = Arena()
        arena.claim(first, 10.0, 6.0 if first == "b" else 5.0)
        arena.claim(second, 10.5, 6.0 if second == "b" else 5.0)
        assert arena.claims.owner(ADDRESS) == "a"


def test_winner_of_two_at_once_loses_if_it_is_dead() -> None:
    arena = Arena()
    arena.claim("new", 10.0, 1.0)
    arena.claim("dead", 10.0, 1000.0)
    assert arena.claims.owner(ADDRESS) == "dead"
    assert arena.run(10.0, 12.0, frozenset({"new"})) == ["dead"]
    assert arena.claims.owner(ADDRESS) == "new"


def test_own_claim_counts_once_another_node_was_met() -> None:
    arena = Arena()
    arena.claim(ME, 10.0)
    arena.claims.met(100.0)
    arena.claim("old", 100.1, 500.0)
    assert arena.claims.owner(ADDRESS) == "old"
    arena.run(100.1, 103.0, frozenset({"old"}))
    assert arena.conflicts() == [("old", ME)]


def test_own_settled_claim_stays_and_is_not_probed() -> None:
    arena = Arena()
    arena.claim(ME, 10.0)
    arena.claims.met(100.0)
    arena.claim("late", 103.0, 500.0)
    assert arena.claims.owner(ADDRESS) == ME
    assert arena.probes() == 0
    assert arena.conflicts() == [(ME, "late")]
    assert arena.claims.next_deadline() == math.inf


def test_own_claim_inherits_from_a_holder_that_left() -> None:
    arena = Arena()
    arena.claims.met(1.0)
    arena.claim("a", 10.0)
    for node in (ME, "b"):
        arena.claim(node, 20.0)
    arena.claims.drop("a", 20.5)
    assert arena.claims.owner(ADDRESS) == "b"  # the smaller id of two equally old ones
    arena.claims.drop("b", 21.0)
    assert arena.claims.owner(ADDRESS) == ME
    assert arena.claims.next_deadline() == math.inf


def test_contender_that_gives_up_ends_the_conflict() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    arena.run(20.0, 30.0, frozenset({"a"}))
    arena.claim("b", 31.0, 0.0, "10.0.0.2")
    assert arena.claims.conflicts() == []
    assert arena.claims.next_deadline() == math.inf


def test_third_claimant_is_reported_too() -> None:
    arena = Arena()
    arena.claim("a", 10.0)
    arena.claim("b", 20.0)
    arena.run(20.0, 25.0, frozenset({"a"}))
    arena.claim("c", 25.0)
    arena.run(25.0, 30.0, frozenset({"a"}))
    assert arena.conflicts() == [("a", "b"), ("a", "c")]


NODES = ("a", "b", "c", "d", ME)
HOSTS = ("10.0.0.1", "10.0.0.2", "fd00::1")


class Model:
    """Ownership by the rules, found by looking at everything each time."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, float]] = {}  # node: host: since
        self.owner: dict[str, str] = {}
        self.accepted: dict[str, float] = {}
        self.met = math.inf

    def best(self, host: str, nodes: list[str]) -> str:
        earliest = min(self.held[node][host] for node in nodes)
        return min(node for node in nodes if self.held[node][host] - earliest <= 2.0)

    def change(self, node: str, held: dict[str, float], now: float) -> None:
        previous = self.held.pop(node, {})
        for host in previous:
            if host not in held and self.owner.get(host) == node:
                del self.owner[host]
                rivals = [other for other in self.held if host in self.held[other]]
                if rivals:
                    self.owner[host] = self.best(host, rivals)
                    self.accepted[host] = now
        self.held[node] = held
        for host in held:
            owner = self.owner.get(host)
            if owner is None:
                self.owner[host] = node
                self.accepted[host] = now
            elif owner != node and host not in previous:
                accepted = self.accepted[host]
                if owner == ME:
                    accepted = max(accepted, self.met)
                if now - accepted < 2.0:
                    self.owner[host] = self.best(host, [owner, node])
        if not held:
            del self.held[node]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1.5),
            st.sampled_from(NODES),
            st.sets(st.sampled_from(HOSTS)),
            st.sampled_from([0.0, 1.0, 10.0]),
        ),
        max_size=30,
    ),
    st.frozensets(st.sampled_from(NODES)),
    st.integers(0, 30),
)
def test_against_a_model(
    steps: list[tuple[float, str, set[str], float]], dead: frozenset[str], met: int
) -> None:
    arena, model = Arena(), Model()
    answering = frozenset(NODES) - dead
    now = 100.0
    for number, (pause, node, hosts, held) in enumerate(steps):
        for lost, when in _run(arena, now, now + pause, answering):
            assert lost in dead
            model.change(lost, {}, when)
        now += pause
        if number == met:
            arena.claims.met(now)
            model.met = now
        if hosts:
            arena.claim(node, now, held, *sorted(hosts))
        else:
            arena.claims.drop(node, now)
        model.change(node, dict.fromkeys(sorted(hosts), now - held), now)
        _check(arena, model)
    for lost, when in _run(arena, now, now + 120.0, answering):
        assert lost in dead
        model.change(lost, {}, when)
    _check(arena, model)
    for conflict in arena.claims.conflicts():
        assert conflict.holder not in dead - {ME}
    # Every address that two claim has a reported conflict by now.
    disputed = sum(
        1 for node, held_hosts in model.held.items() for h in held_hosts if model.owner[h] != node
    )
    assert len(arena.claims.conflicts()) == disputed


def _run(
    arena: Arena, now: float, until: float, answering: frozenset[str]
) -> list[tuple[str, float]]:
    """As `Arena.run`, with the times."""
    gone: list[tuple[str, float]] = []
    while True:
        seen, arena.events = list(arena.events), []
        arena.claims._emit = arena.events.append
        for event in seen:
            if isinstance(event, ProbeHolder) and event.node_id in answering:
                arena.claims.heard(event.node_id, now)
        if arena.events:
            continue
        if (deadline := arena.claims.next_deadline()) > until:
            return gone
        now = deadline
        for node in arena.claims.handle_timer(now):
            arena.claims.drop(node, now)
            gone.append((node, now))


def _check(arena: Arena, model: Model) -> None:
    for host in HOSTS:
        assert arena.claims.owner(ip_address(host)) == model.owner.get(host)
    for node in NODES:
        expected = {host for host, owner in model.owner.items() if owner == node}
        assert {str(address) for address in arena.claims.owned(node)} == expected
    for conflict in arena.claims.conflicts():
        assert conflict.winner == conflict.holder == model.owner[str(conflict.address)]
        assert str(conflict.address) in model.held[conflict.claimant]
