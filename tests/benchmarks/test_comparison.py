"""The arithmetic of the benchmarks: limits and tables. The measuring itself is `make bench`."""

from __future__ import annotations

import pytest

from benchmarks.limits import LIMITS, judge
from benchmarks.measures import MEASURES, SESSIONS
from benchmarks.report import Entry, cell, table
from benchmarks.tunnels import TUNNELS, Veth


def test_a_limit_is_a_ratio_to_another_tunnel_of_the_run() -> None:
    medians = {"wireguard-go": {"udp1300": 400.0}, "tunmesh": {"udp1300": 1000.0}}
    (verdict,) = judge(medians)
    assert verdict.ratio == 2.5
    assert verdict.passed


def test_a_limit_may_be_a_ratio_to_another_measure_of_tunmesh() -> None:
    (verdict,) = judge({"tunmesh": {"tcp": 1000.0, "tcp4": 899.0}})
    assert not verdict.passed


@pytest.mark.parametrize(("seconds", "passed"), [(0.9, True), (1.0, True), (1.1, False)])
def test_a_limit_may_be_a_plain_bound(seconds: float, passed: bool) -> None:
    (verdict,) = judge({"tunmesh": {"start": seconds}})
    assert verdict.passed is passed


def test_another_configuration_of_tunmesh_may_have_a_limit_of_its_own() -> None:
    (verdict,) = judge({"openvpn": {"tcp": 1400.0}, "tunmesh-https": {"tcp": 2100.0}})
    assert (verdict.limit.of, verdict.ratio, verdict.passed) == ("tunmesh-https", 1.5, True)


def test_nothing_is_judged_without_its_reference() -> None:
    assert judge({"tunmesh": {"udp64": 100.0}}) == []
    assert judge({"wireguard-go": {"udp64": 100.0}}) == []


def test_every_limit_and_every_session_names_measures_and_tunnels_that_exist() -> None:
    names = {tunnel.name for tunnel in TUNNELS}
    for limit in LIMITS:
        assert limit.measure in MEASURES
        assert limit.own is None or limit.own in MEASURES
        assert limit.tunnel is None or limit.tunnel in names
        assert limit.of in names
    assert sorted(name for session in SESSIONS for name in session.yields) == sorted(MEASURES)


def test_rounds_that_failed_leave_the_median_of_the_others() -> None:
    entry = Entry(Veth(), "Linux", rounds=[{"tcp": 3.0}, {}, {"tcp": 1.0, "tcp4": 7.0}])
    assert entry.medians() == {"tcp": 2.0, "tcp4": 7.0}


def test_a_table_is_aligned_in_its_source() -> None:
    assert table(["what", "n"], [["tcp", cell([1234.5, 1000.0, 2000.0], 0)]]).splitlines() == [
        "| what |                   n |",
        "| ---- | ------------------: |",
        "| tcp  | 1,234 (1,000-2,000) |",
    ]
    assert cell([], 1) == "-"
