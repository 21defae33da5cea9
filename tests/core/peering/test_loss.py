"""How loss is measured, and how large units may be because of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.peering.loss import LossMeter

SLICE = 1456


class Receiver:
    """A receiver's cumulative counts."""

    def __init__(self, meter: LossMeter, index: int = 1) -> None:
        self.meter = meter
        self.index = index
        self.expected = self.got = 0
        self.report()

    def report(self, sent: int = 0, lost: int = 0, *, overrun: bool = False) -> None:
        self.expected += sent
        self.got += sent - lost
        self.meter.report(self.index, self.expected, self.got, overrun=overrun)


def settled(loss: float) -> LossMeter:
    """A meter that has seen nothing but this loss for long."""
    meter = LossMeter()
    receiver = Receiver(meter)
    for _ in range(40):
        receiver.report(100_000, round(loss * 100_000))
    assert meter.loss == pytest.approx(loss, rel=0.01)
    return meter


def test_no_report_no_loss() -> None:
    meter = LossMeter()
    assert (meter.loss, meter.bulk_limit(SLICE)) == (0.0, 0)


@pytest.mark.parametrize(
    ("sent", "weight"), [(50, 0.05), (100, 0.1), (400, 0.4), (1000, 1.0), (9000, 1.0)]
)
def test_loss_rises_by_the_weight_of_a_sample(sent: int, weight: float) -> None:
    meter = LossMeter()
    Receiver(meter).report(sent, sent // 2)
    assert meter.loss == pytest.approx(weight / 2)


@pytest.mark.parametrize(("sent", "weight"), [(50, 0.05), (100, 0.1), (400, 0.25), (9000, 0.25)])
def test_loss_falls_slowly(sent: int, weight: float) -> None:
    meter = LossMeter()
    receiver = Receiver(meter)
    receiver.report(1000, 100)
    receiver.report(sent, 0)
    assert meter.loss == pytest.approx(0.1 * (1 - weight))


def test_small_samples_are_gathered() -> None:
    meter = LossMeter()
    receiver = Receiver(meter)
    for _ in range(4):
        receiver.report(10, 5)
    receiver.report(9, 5)
    assert meter.loss == 0.0
    receiver.report(1, 0)
    assert meter.loss == pytest.approx(0.05 * 25 / 50)
    receiver.report(49, 49)
    assert meter.loss == pytest.approx(0.05 * 25 / 50)


@pytest.mark.parametrize("overrun_of", [1000, 10])
def test_what_the_receiver_itself_lost_is_left_out(overrun_of: int) -> None:
    meter = LossMeter()
    receiver = Receiver(meter)
    receiver.report(overrun_of, overrun_of // 2, overrun=True)
    receiver.report(1000, 500)  # what its queue had dropped may be missed only now
    if overrun_of < 50:
        assert meter.loss == 0.0
        receiver.report(1000, 500)
    assert meter.loss == 0.0
    receiver.report(1000, 100)
    assert meter.loss == pytest.approx(0.1)


def test_another_keypair_starts_anew() -> None:
    meter = LossMeter()
    Receiver(meter, 1).report(1000, 0)
    other = Receiver(meter, 2)
    assert meter.loss == 0.0
    other.report(1000, 100)
    assert meter.loss == pytest.approx(0.1)


@pytest.mark.parametrize(("expected", "got"), [(999, 1000), (1000, 999)])
def test_reports_that_go_back_start_anew(expected: int, got: int) -> None:
    meter = LossMeter()
    for report in ((0, 0), (1000, 1000), (expected, got), (expected + 1000, got + 1000)):
        meter.report(1, *report, overrun=False)
    assert meter.loss == 0.0


def test_late_units_do_not_make_loss_negative() -> None:
    meter = settled(0.01)
    receiver = Receiver(meter, 2)
    receiver.report(1000, -500)
    assert meter.loss == pytest.approx(0.0075, rel=0.02)


@pytest.mark.parametrize(
    ("loss", "slices"),
    [(0.0, 0), (0.002, 0), (0.0031, 16), (0.0045, 11), (0.01, 4), (0.03, 1), (0.5, 1)],
)
def test_bulk_limit(loss: float, slices: int) -> None:
    assert settled(loss).bulk_limit(SLICE) == slices * SLICE


def test_the_limit_stays_until_loss_is_clearly_gone() -> None:
    meter = LossMeter()
    limits = []
    for loss in (0.0029, 0.0031, 0.0025, 0.0021, 0.0019, 0.0025, 0.0031):
        meter.loss = loss
        limits.append(bool(meter.bulk_limit(SLICE)))
    assert limits == [False, True, True, True, False, False, True]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 2**64 - 1) | st.integers(0, 3000),
            st.integers(0, 2**64 - 1) | st.integers(0, 3000),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_whatever_is_reported_loss_is_a_share(reports: list[tuple[int, int, int, bool]]) -> None:
    meter = LossMeter()
    for index, expected, got, overrun in reports:
        meter.report(index, expected, got, overrun=overrun)
        assert 0.0 <= meter.loss <= 1.0
        limit = meter.bulk_limit(SLICE)
        assert limit % SLICE == 0
        assert 0 <= limit <= 25 * SLICE
