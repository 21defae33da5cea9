"""Token buckets, with the cases of WireGuard's ratelimiter selftest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.session.limits import SourceLimiter, TokenBucket


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_five_at_once_then_twenty_a_second() -> None:
    limiter = SourceLimiter()
    assert [limiter.take(b"a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [limiter.take(b"a", 0.0501) for _ in range(2)] == [True, False]
    assert [limiter.take(b"a", 0.1502) for _ in range(3)] == [True, True, False]
    assert limiter.take(b"b", 0.1502)
    assert [limiter.take(b"a", 10.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_full_table_refuses_strangers_only() -> None:
    limiter = SourceLimiter()
    assert all(limiter.take(key(number), 0.0) for number in range(SourceLimiter.SIZE))
    assert not limiter.take(b"new", 0.0)
    assert limiter.take(b"new", 0.0, known=True)
    assert limiter.take(key(1), 0.0)  # those in the table are served as before
    assert len(limiter) == SourceLimiter.SIZE


def test_full_buckets_make_room() -> None:
    limiter = SourceLimiter()
    for number in range(SourceLimiter.SIZE):
        limiter.take(key(number), 0.0)
    assert limiter.take(b"new", 0.3)
    assert len(limiter) == 1
    limiter.expire(1.0)
    assert len(limiter) == 0


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10.0, 2.0, 5.0)
    assert [bucket.take(now) for now in (5.0, 4.0, 3.0, 5.0)] == [True, True, False, False]


@given(st.lists(st.floats(0, 0.3), max_size=150))
def test_never_more_than_rate_and_burst(gaps: list[float]) -> None:
    bucket, now, taken = TokenBucket(20.0, 5.0, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert taken <= 5 + 20 * now + 1e-6
