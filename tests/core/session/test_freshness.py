"""Timestamps of requests."""

from __future__ import annotations

from tunmesh.session import freshness
from tunmesh.session.freshness import Freshness


def test_a_stranger_must_exceed_the_time_of_the_start() -> None:
    fresh = Freshness(lambda: 1000)
    assert fresh.reference(b"a") == 999
    fresh.accept(b"a", 2000, 1.0)
    assert fresh.reference(b"a") == 2000
    assert fresh.reference(b"b") == 999
    assert fresh.accepted_at(b"a") == 1.0
    assert fresh.accepted_at(b"b") == float("-inf")


def test_a_met_challenge_takes_the_timestamp_back() -> None:
    fresh = Freshness(lambda: 1000)
    fresh.accept(b"a", 2000, 1.0)
    fresh.accept(b"a", 500, 2.0)
    assert fresh.reference(b"a") == 500


def test_a_clock_before_1970_does_no_harm() -> None:
    assert Freshness(lambda: -5).reference(b"a") == 0


def test_what_is_forgotten_cannot_be_replayed() -> None:
    fresh = Freshness(lambda: 1000)
    most = freshness._MAX_TIMESTAMPS
    for number in range(most + 1):
        fresh.accept(number.to_bytes(32, "big"), 5000 + number, 0.0)
    assert fresh.reference(bytes(32)) == 5000
    assert fresh.reference(b"unknown") == 5000
    assert fresh.reference(most.to_bytes(32, "big")) == 5000 + most
