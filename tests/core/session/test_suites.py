"""The rule for the suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.session.suites import AES256GCM, CHACHA20POLY1305, choose, offer

BOTH = (AES256GCM, CHACHA20POLY1305)


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [
        (offer(BOTH, hardware_aes=True), offer(BOTH, hardware_aes=True), AES256GCM),
        (offer(BOTH, hardware_aes=True), offer(BOTH, hardware_aes=False), CHACHA20POLY1305),
        (offer(BOTH, hardware_aes=False), offer(BOTH, hardware_aes=False), CHACHA20POLY1305),
        (offer([1], hardware_aes=False), offer(BOTH, hardware_aes=False), AES256GCM),
        (offer([2], hardware_aes=True), offer(BOTH, hardware_aes=True), CHACHA20POLY1305),
        (offer([1], hardware_aes=True), offer([2], hardware_aes=True), None),
        (offer(BOTH, hardware_aes=True), 0, None),
    ],
)
def test_cases(ours: int, theirs: int, chosen: int | None) -> None:
    assert choose(ours, theirs) == chosen


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_both_sides_choose_alike_and_only_what_both_offer(ours: int, theirs: int) -> None:
    chosen = choose(ours, theirs)
    assert chosen == choose(theirs, ours)
    assert (chosen is None) == (not ours & theirs & 0b11)
    if chosen is not None:
        assert ours & theirs & 1 << (chosen - 1)
