"""The search for a path's largest datagram, against a path that is played."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.peering.mtu import PathMtu

RTT = 0.01


class Way:
    """A path that is probed every 0.4 s, as one that carries traffic.

    Args:
        passes: Decides which datagrams arrive, given their size.
        largest: Where the search starts.
    """

    def __init__(self, passes: Callable[[int], bool], largest: int = 1472) -> None:
        self.passes = passes
        self.now = 100.0
        self.mtu = PathMtu(largest, self.now)
        self.sent: list[int] = []
        self.sizes = [largest]
        self.last = b""
        self._tokens = count()
        self._answers: list[tuple[float, bytes]] = []
        self._heard = self.now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        tick = self.now
        while self.now < end:
            if self.now >= tick:
                tick = self.now + 0.4
                if self.passes(72):
                    self._answers.append((self.now + RTT, b""))
                self._send(self.mtu.check(self.now, RTT))
            self._send(self.mtu.due(self.now, RTT, self._heard))
            nearest = min((at for at, _ in self._answers), default=end)
            self.now = max(self.now, min(tick, nearest, self.mtu.next_deadline(), end))
            for at, token in sorted(self._answers):
                if at <= self.now:
                    self._answers.remove((at, token))
                    self._heard = self.now
                    if token:
                        self.mtu.answered(token, self.now)
                        if self.mtu.size != self.sizes[-1]:
                            self.sizes.append(self.mtu.size)

    def _send(self, sizes: list[int]) -> None:
        for size in sizes:
            token = b"%8d" % next(self._tokens)
            self.mtu.sent(token, size)
            self.sent.append(size)
            self.last = token
            if self.passes(size):
                self._answers.append((self.now + RTT, token))


def narrow(limit: int) -> Way:
    """A path that suddenly carries no more than so many bytes."""
    way = Way(lambda size: True)
    way.run(5.0)
    assert way.mtu.size == 1472
    way.passes = lambda size: size <= limit
    return way


@pytest.mark.parametrize("limit", [1472, 1452, 1372, 1352, 1300, 1272, 1252, 1099, 1096, 1076, 600])
def test_a_hole_is_found_to_the_byte(limit: int) -> None:
    way = narrow(limit)
    way.run(4.0)
    assert way.mtu.size == limit
    assert way.mtu.steady


@settings(max_examples=60)
@given(st.integers(508, 1472))
def test_any_hole_is_found(limit: int) -> None:
    way = narrow(limit)
    way.run(5.0)
    assert way.mtu.size == limit


def test_traffic_passes_again_before_the_search_ends() -> None:
    way = narrow(1372)
    way.run(2.0)
    assert way.mtu.size >= 1072
    assert len([size for size in way.sent if size > 1372]) < 100


def test_a_hole_at_the_start_is_found() -> None:
    way = Way(lambda size: size <= 1372)
    way.run(3.0)
    assert way.mtu.size == 1372


def test_a_path_that_widens_is_used_again_after_ten_minutes() -> None:
    way = narrow(1300)
    way.run(10.0)
    way.passes = lambda size: True
    way.run(580.0)
    assert way.mtu.size == 1300
    way.run(20.0)
    assert way.mtu.size == 1472


def test_a_path_that_stays_narrow_is_hardly_probed_for_more() -> None:
    way = narrow(1300)
    way.run(10.0)
    way.sent.clear()
    way.run(1300.0)
    assert way.mtu.size == 1300
    assert sum(size > 1300 for size in way.sent) < 2 * 100


@pytest.mark.parametrize("loss", [0.2, 0.36, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_loss_makes_no_path_smaller(loss: float, seed: int) -> None:
    rng = random.Random(seed)
    way = Way(lambda _: rng.random() >= loss)
    way.run(600.0)
    assert way.sizes == [1472]


def test_overload_that_spares_small_datagrams_a_little_makes_no_path_smaller() -> None:
    rng = random.Random(1)
    way = Way(lambda size: rng.random() >= (0.5 if size > 1200 else 0.2))
    way.run(600.0)
    assert way.mtu.size == 1472


@pytest.mark.parametrize("loss", [0.2, 0.36])
@pytest.mark.parametrize("limit", [1372, 1096])
def test_a_hole_is_found_under_loss(limit: int, loss: float) -> None:
    rng = random.Random(1)
    way = narrow(limit)
    way.passes = lambda size: size <= limit and rng.random() >= loss
    way.run(8.0)
    assert 0.9 * limit <= way.mtu.size <= limit


def test_a_path_that_is_silent_altogether_is_left_alone() -> None:
    way = narrow(0)
    way.sent.clear()
    way.run(10.0)
    assert way.mtu.size == 1472
    assert len(way.sent) <= 26  # the checks, nothing else


def test_a_lie_costs_a_few_probes() -> None:
    way = Way(lambda size: True)
    way.run(1.0)
    way.sent.clear()
    for _ in range(100):
        way.mtu.doubt(way.now)
    way.run(0.3)
    assert way.mtu.size == 1472
    assert way.sent == [1472, 1072, 508]


def test_a_hint_makes_it_faster() -> None:
    way = narrow(1372)
    way.mtu.doubt(way.now)
    way.run(1.3)
    assert way.mtu.size >= 1072
    way.run(1.0)
    assert way.mtu.size == 1372


def test_only_its_own_probes_are_answered() -> None:
    mtu = PathMtu(1472, 0.0)
    mtu.sent(b"a token.", 1472)
    assert not mtu.answered(b"another.", 0.1)
    assert mtu.answered(b"a token.", 0.1)
    assert not mtu.answered(b"a token.", 0.1)


def test_a_late_answer_takes_a_wrong_verdict_back() -> None:
    way = narrow(1372)
    way.sent.clear()
    while not way.sent or way.sent[-1] != 1472:
        way.run(0.01)
    late = way.last
    way.run(5.0)
    assert way.mtu.size == 1372
    way.mtu.answered(late, way.now)
    assert way.mtu.size == 1472


def test_probes_that_wait_are_bounded() -> None:
    mtu = PathMtu(1472, 0.0)
    for number in range(1000):
        mtu.sent(b"%8d" % number, 1472)
    assert not mtu.answered(b"%8d" % 800, 0.1)
    assert mtu.answered(b"%8d" % 999, 0.1)
