"""Which path carries traffic, when paths are probed, and how a peer that moves is followed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.fakes import RecordingTransport
from tests.core.peering.services import FakeServices
from tunmesh.interfaces.transport import PathHandle
from tunmesh.peering.path import Path, State, probe_reply_untrusted
from tunmesh.peering.paths import Paths


class Bench:
    """The paths of a peer, the probes that were sent, and where the peer does not say it is."""

    def __init__(self) -> None:
        self.services = FakeServices()
        self.elsewhere: set[str] = set()
        self.paths = Paths(self.services, self._probe, lambda url: url not in self.elsewhere)
        self.probes: list[tuple[Path, bytes]] = []

    def _probe(self, path: Path, body: bytes) -> None:
        self.probes.append((path, body))

    def handle(self, name: str, transport: RecordingTransport | None = None) -> PathHandle:
        return (transport or self.services.transport).connect(f"test://{name}")

    def path(
        self,
        name: str,
        *,
        now: float = 0.0,
        rtt: float | None = None,
        state: State = "trying",
        priority: int = 0,
    ) -> Path:
        """A path; each priority is a transport of its own."""
        transport = RecordingTransport(priority=priority) if priority else None
        path = self.paths.ensure(self.handle(name, transport), now)
        path.become(state, now)
        path.rtt = rtt
        return path

    def probed(self) -> list[Path]:
        """The paths that were probed since the last call."""
        probes, self.probes = self.probes, []
        return [path for path, _ in probes]

    def endpoints(self) -> list[str]:
        """The endpoints that were probed."""
        return [path.handle.endpoint for path, _ in self.probes]

    def answer(self, path: Path, now: float) -> None:
        """Let the last probe of a path be answered."""
        token = [body for probed, body in self.probes if probed is path][-1]
        assert path.answered(probe_reply_untrusted(token, 1, 0, 0, overrun=False), now)
        self.paths.answered(path, now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Which there are


def test_a_path_is_made_once_and_its_handle_adopted(bench: Bench) -> None:
    path = bench.path("one")
    assert bench.paths.ensure(path.handle, 5.0) is path
    assert bench.paths.get(path.handle) is path
    assert bench.paths.get(bench.handle("two")) is None
    assert list(bench.paths) == [path]
    assert bench.services.transport.adopted == [path.handle]
    bench.paths.forget(path)
    assert list(bench.paths) == []
    assert bench.services.transport.adopted == []


def test_iterating_while_paths_go(bench: Bench) -> None:
    bench.path("one")
    bench.path("two")
    for path in bench.paths:
        bench.paths.forget(path)
    assert list(bench.paths) == []


def test_paths_are_bounded_and_the_oldest_useless_one_goes(bench: Bench) -> None:
    active = bench.path("active", now=0.0, state="up")
    bench.paths.choose(0.0, "first")
    up = bench.path("up", now=1.0, state="up")
    others = [bench.path(str(number), now=2.0 + number) for number in range(6)]
    new = bench.path("new", now=20.0)
    assert set(bench.paths) == {active, up, *others[1:], new}
    for number in range(20):
        bench.path(f"port {number}", now=30.0 + number)
    assert len(list(bench.paths)) == 8
    assert {active, up} <= set(bench.paths)
    assert len(bench.services.transport.adopted) == 8


def test_of_live_paths_the_oldest_goes_but_not_the_active_one(bench: Bench) -> None:
    paths = [bench.path(str(number), now=number, state="up") for number in range(8)]
    bench.paths.active = paths[0]
    bench.path("new", now=9.0)
    assert paths[1] not in set(bench.paths)
    assert paths[0] in set(bench.paths)


def test_paths_that_are_dead_for_long_are_forgotten_unless_announced(bench: Bench) -> None:
    announced = bench.path("announced", state="down")
    bench.path("dead", state="down")
    bench.path("never")
    up = bench.path("up", state="up")
    young = bench.path("young", now=10.0, state="down")
    everything = set(bench.paths)
    bench.elsewhere = {path.handle.endpoint for path in everything - {announced}}
    bench.paths.forget_dead(60.0)
    assert set(bench.paths) == everything
    bench.paths.forget_dead(60.1)
    assert set(bench.paths) == {announced, up, young}


def test_clear(bench: Bench) -> None:
    old = bench.path("old", state="up")
    bench.paths.choose(0.0, "first")
    bench.paths.answered(bench.path("new"), 5.0)
    bench.paths.clear()
    assert bench.paths.active is None
    assert list(bench.paths) == []
    assert bench.services.transport.adopted == []
    assert bench.paths.next_deadline() == float("inf")
    bench.paths.settle(99.0)
    assert old.state == "up"


# Probing


def test_something_along_a_path_makes_it_be_asked_but_not_too_often(bench: Bench) -> None:
    handle = bench.handle("new")
    asked = []
    for tick in range(6):
        bench.paths.challenge(handle, tick * 0.06)
        asked.append(len(bench.probed()))
    assert asked == [1, 0, 1, 0, 1, 0]
    path = bench.paths.get(handle)
    assert path is not None
    assert path.state == "trying"
    assert bench.paths.active is None


@pytest.mark.parametrize(
    ("state", "active", "busy", "unanswered", "interval"),
    [
        ("up", True, True, 0, 0.4),
        ("up", True, False, 0, 2.0),
        ("up", False, True, 0, 10.0),
        ("up", True, False, 1, 0.4),
        ("up", False, False, 1, 0.4),
        ("trying", False, False, 0, 0.4),
        ("down", False, False, 0, 10.0),
        ("down", False, False, 5, 10.0),
    ],
)
def test_intervals_of_probes(
    bench: Bench, state: State, active: bool, busy: bool, unanswered: int, interval: float
) -> None:
    path = bench.path("one", state=state)
    bench.paths.active = path if active else None
    bench.paths.since = 1.0  # longer ago than what counts as new
    path.unanswered = unanswered
    bench.paths.probe_due(5.0, busy=busy)
    assert bench.probed() == [path]
    assert path.next_probe == pytest.approx(5.0 + 0.95 * interval)
    bench.paths.probe_due(path.next_probe - 0.001, busy=busy)
    assert bench.probed() == []
    assert bench.paths.next_deadline() == path.next_probe


def run(bench: Bench, until: float) -> list[float]:
    """Probe whenever it is due; the times at which something was probed."""
    times = []
    while (now := bench.paths.next_deadline()) <= until:
        bench.paths.probe_due(now, busy=True)
        if bench.probed():
            times.append(round(now, 3))
    return times


def test_a_path_that_does_not_answer_dies(bench: Bench) -> None:
    path = bench.path("one", state="up")
    bench.paths.choose(0.0, "first")
    times = run(bench, 3.3)
    assert len(times) == 9
    assert times[-1] == pytest.approx(8 * 0.38)
    assert [bench.paths.active] == [path]
    run(bench, 3.5)
    assert (path.state, bench.paths.active, bench.paths.reason) == ("down", None, "no answer")
    # Dead ones are still asked now and then, and come back.
    assert path.next_probe == pytest.approx(9 * 0.38 + 10.0)
    bench.paths.probe_due(path.next_probe, busy=False)
    bench.answer(path, 15.0)
    assert (path.state, bench.paths.active, bench.paths.reason) == ("up", path, "validated")


def test_an_answer_in_time_keeps_a_path_alive(bench: Bench) -> None:
    path = bench.path("one", state="up")
    bench.paths.choose(0.0, "first")
    for _ in range(8):
        bench.paths.probe_due(bench.paths.next_deadline(), busy=True)
    bench.answer(path, 3.0)
    assert path.unanswered == 0
    run(bench, 6.0)
    assert path.state == "up"


def test_a_path_that_was_never_proven_is_given_up(bench: Bench) -> None:
    path = bench.path("one")
    times = run(bench, 30.0)
    assert len([time for time in times if time < 4.0]) == 9
    assert path.state == "down"
    assert len([time for time in times if time >= 4.0]) == 2


# Which one carries traffic


def test_the_first_that_is_proven(bench: Bench) -> None:
    trying = bench.path("trying")
    one, two = bench.path("one"), bench.path("two")
    bench.paths.proven(one, 1.0, "handshake")
    assert (bench.paths.active, bench.paths.reason) == (one, "handshake")
    assert (one.state, one.answered_at, one.next_probe) == ("up", 1.0, 1.0)
    bench.paths.proven(two, 2.0, "handshake")
    assert bench.paths.active is one
    assert trying.state == "trying"


def test_priority_decides_first(bench: Bench) -> None:
    slow = bench.path("slow", rtt=0.5, state="up", priority=10)
    bench.path("fast", rtt=0.01, state="up")
    bench.paths.choose(0.0, "first")
    assert bench.paths.active is slow
    better = bench.path("better", rtt=2.0, state="up", priority=20)
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is better
    bench.paths.dead(better, 2.0, "no answer")
    assert bench.paths.active is slow


def test_a_lower_priority_takes_over_only_from_a_dead_path(bench: Bench) -> None:
    high = bench.path("high", rtt=0.5, state="up", priority=10)
    low = bench.path("low", rtt=0.01, state="up")
    bench.paths.choose(0.0, "first")
    high.unanswered = 5
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is high
    bench.paths.dead(high, 2.0, "no answer")
    assert bench.paths.active is low
    assert high.next_probe == 12.0


@pytest.mark.parametrize(
    ("active", "other", "changes"),
    [
        (0.100, 0.068, True),
        (0.100, 0.070, False),
        (0.100, None, False),
        (None, 0.001, False),
        (0.002, 0.0005, False),  # noise
        (0.010, 0.005, True),
    ],
)
def test_only_a_clearly_faster_path_takes_over(
    bench: Bench, active: float | None, other: float | None, changes: bool
) -> None:
    first = bench.path("first", rtt=active, state="up")
    bench.paths.choose(0.0, "first")
    second = bench.path("second", rtt=other, state="up")
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is (second if changes else first)
    assert bench.paths.reason == ("better" if changes else "first")


def test_being_faster_is_not_enough_where_the_peer_does_not_say_it_is(bench: Bench) -> None:
    first = bench.path("first", rtt=0.1, state="up")
    bench.paths.choose(0.0, "first")
    bench.elsewhere = {"test://relay"}
    bench.path("relay", rtt=0.01, state="up")
    second = bench.path("second", rtt=0.05, state="up")
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is second
    bench.paths.dead(second, 2.0, "no answer")
    bench.paths.dead(first, 2.0, "no answer")
    assert bench.paths.active is bench.paths.get(bench.handle("relay"))


@pytest.mark.parametrize(("unanswered", "changes"), [(2, False), (3, True)])
def test_a_path_that_answers_takes_over_from_one_that_does_not(
    bench: Bench, unanswered: int, changes: bool
) -> None:
    first = bench.path("first", rtt=0.01, state="up")
    bench.paths.choose(0.0, "first")
    second = bench.path("second", rtt=0.5, state="up")
    first.unanswered = unanswered
    first.answered_at = second.answered_at = 0.0  # from before it fell silent
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is first
    second.answered_at = 1.5
    bench.paths.choose(1.6, "better")
    assert bench.paths.active is (second if changes else first)


def test_a_path_that_does_not_answer_either_does_not_take_over(bench: Bench) -> None:
    first = bench.path("first", state="up")
    bench.paths.choose(0.0, "first")
    second = bench.path("second", state="up")
    first.unanswered = second.unanswered = 3
    bench.paths.choose(1.0, "better")
    assert bench.paths.active is first


def test_a_silent_path_is_left_while_another_answers(bench: Bench) -> None:
    first = bench.path("first", state="up")
    bench.paths.choose(0.0, "first")
    second = bench.path("second", state="up")
    second.next_probe = 50.0
    for _ in range(3):
        bench.paths.probe_due(bench.paths.next_deadline(), busy=True)
        assert bench.paths.active is first
    bench.probed()
    now = bench.paths.next_deadline()
    bench.paths.probe_due(now, busy=True)
    assert bench.paths.active is first
    assert sorted(bench.endpoints()) == ["test://first", "test://second"]  # is it alive?
    bench.answer(second, now + 0.01)
    assert (bench.paths.active, bench.paths.reason) == (second, "no answer")
    assert first.state == "up"


def test_a_new_active_path_is_asked_soon(bench: Bench) -> None:
    path = bench.path("one", state="up")
    path.next_probe = 50.0
    bench.paths.choose(1.0, "first")
    assert path.next_probe == pytest.approx(1.4)


def test_none_is_left(bench: Bench) -> None:
    path = bench.path("one", state="up")
    bench.paths.choose(0.0, "first")
    bench.paths.dead(path, 1.0, "closed")
    assert (bench.paths.active, bench.paths.reason) == (None, "closed")


def test_an_answer_of_a_live_path_may_show_it_to_be_better(bench: Bench) -> None:
    slow = bench.path("slow", rtt=0.2, state="up")
    bench.paths.choose(0.0, "first")
    fast = bench.path("fast", state="up")
    fast.rtt = 0.05
    bench.paths.answered(slow, 1.0)
    assert bench.paths.active is slow
    bench.paths.answered(fast, 1.0)
    assert (bench.paths.active, bench.paths.reason) == (fast, "better")


# A peer that moves


def moved(bench: Bench, *, now: float = 10.0, rtt: float | None = None) -> tuple[Path, Path]:
    """An active path, and a new one along which a probe was just answered."""
    old = bench.path("old", rtt=rtt, state="up")
    bench.paths.choose(0.0, "first")
    old.next_probe = now + 50.0
    new = bench.path("new", now=now)
    bench.paths.answered(new, now)
    return old, new


def test_a_peer_that_moved_is_followed_when_its_old_path_stays_silent(bench: Bench) -> None:
    old, new = moved(bench)
    assert (new.state, bench.paths.active) == ("up", old)
    assert bench.probed() == [old]
    bench.paths.settle(10.29)
    assert bench.paths.active is old
    bench.paths.settle(10.3)
    assert (bench.paths.active, bench.paths.reason) == (new, "moved")
    assert old.state == "down"


def test_a_copy_from_elsewhere_does_not_draw_the_traffic(bench: Bench) -> None:
    old, new = moved(bench)
    bench.answer(old, 10.1)
    bench.paths.settle(10.3)
    assert (bench.paths.active, old.state, new.state) == (old, "up", "up")
    bench.paths.settle(20.0)
    assert bench.paths.active is old


def test_a_slow_old_path_gets_more_time(bench: Bench) -> None:
    old, new = moved(bench, rtt=0.5)
    assert bench.paths.next_deadline() <= 11.5
    bench.paths.settle(11.4)
    assert bench.paths.active is old
    bench.paths.settle(11.5)
    assert bench.paths.active is new


@pytest.mark.parametrize(("rtt", "soon"), [(None, 10.15), (0.4, 10.6)])
def test_in_a_duel_the_old_path_is_asked_twice(
    bench: Bench, rtt: float | None, soon: float
) -> None:
    old, _ = moved(bench, rtt=rtt)
    assert bench.probed() == [old]
    assert old.next_probe == pytest.approx(soon)


def test_there_is_one_duel_at_a_time(bench: Bench) -> None:
    old, new = moved(bench)
    bench.probed()
    bench.paths.answered(bench.path("third", now=10.2), 10.2)
    assert bench.probed() == []
    bench.paths.settle(10.3)
    assert bench.paths.active is not old
    assert new.state == "up"


def test_a_challenger_that_died_wins_nothing(bench: Bench) -> None:
    old, new = moved(bench)
    new.become("down", 10.1)
    bench.paths.settle(10.3)
    assert (bench.paths.active, old.state) == (old, "up")


def test_a_duel_ends_when_another_path_is_chosen(bench: Bench) -> None:
    old, new = moved(bench)
    best = bench.path("best", state="up", priority=5)
    bench.paths.choose(10.1, "better")
    assert bench.paths.active is best
    bench.paths.settle(10.3)
    assert (bench.paths.active, best.state, old.state, new.state) == (best, "up", "up", "up")


@pytest.mark.parametrize(("priority", "changes"), [(5, True), (0, False)])
def test_a_path_of_another_transport_is_no_move(bench: Bench, priority: int, changes: bool) -> None:
    old = bench.path("old", state="up", priority=3)
    bench.paths.choose(0.0, "first")
    new = bench.path("new", now=10.0, priority=priority)
    bench.paths.answered(new, 10.0)
    assert bench.probed() == []
    assert bench.paths.active is (new if changes else old)


def test_a_dead_active_path_needs_no_duel(bench: Bench) -> None:
    old = bench.path("old", state="up")
    bench.paths.choose(0.0, "first")
    old.become("down", 1.0)
    new = bench.path("new", now=10.0)
    bench.paths.answered(new, 10.0)
    assert (bench.paths.active, bench.paths.reason) == (new, "validated")


# Whatever happens


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["challenge", "answer", "prove", "dead", "time", "time", "time"]),
            st.integers(0, 11),
            st.floats(0.01, 3.0),
        ),
        max_size=80,
    )
)
def test_the_active_path_is_always_a_live_one(steps: list[tuple[str, int, float]]) -> None:
    bench = Bench()
    bench.elsewhere = {f"test://{number}" for number in range(0, 12, 2)}
    transports = [RecordingTransport(priority=priority) for priority in (0, 0, 10)]
    handles = [transports[number % 3].connect(f"test://{number}") for number in range(12)]
    now = 0.0
    for what, number, pause in steps:
        handle = handles[number]
        path = bench.paths.get(handle)
        if what == "challenge":
            bench.paths.challenge(handle, now)
        elif what == "prove":
            bench.paths.proven(bench.paths.ensure(handle, now), now, "handshake")
        elif what == "time":
            now += pause
            bench.paths.settle(now)
            bench.paths.probe_due(now, busy=number % 2 == 0)
            bench.paths.forget_dead(now)
            bench.paths.probe_due(now, busy=False)  # a first one may want others asked at once
            assert bench.paths.next_deadline() > now
        elif path is not None and what == "dead":
            bench.paths.dead(path, now, "closed")
        elif path is not None and any(probed is path for probed, _ in bench.probes):
            token = next(body for probed, body in reversed(bench.probes) if probed is path)
            if path.answered(probe_reply_untrusted(token, 1, 0, 0, overrun=False), now):
                bench.paths.answered(path, now)
        live = [each for each in bench.paths if each.state == "up"]
        active = bench.paths.active
        if active is None:
            assert not live
        else:
            assert active in live
        adopted = {handle for transport in transports for handle in transport.adopted}
        assert adopted == {each.handle for each in bench.paths}
        assert len(adopted) <= 8
