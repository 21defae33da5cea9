"""What tunmesh must reach, as ratios to other tunnels of the same run or to itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measures import LOSSES


@dataclass(frozen=True)
class Limit:
    """What tunmesh must reach in one measure.

    Attributes:
        measure: Which.
        factor: The bound, as a multiple of the reference, or itself when there is none.
        at_least: Whether more is better.
        tunnel: The tunnel whose figure is the reference.
        of: The tunnel that must reach it.
        own: The measure of tunmesh itself that is the reference.
    """

    measure: str
    factor: float
    at_least: bool
    tunnel: str | None = None
    own: str | None = None
    of: str = "tunmesh"


WG, NEBULA, OPENVPN = "wireguard-go", "nebula", "openvpn"

LIMITS = (
    Limit("tcp", 6.5, at_least=True, tunnel=WG),
    Limit("tcp", 3.0, at_least=True, tunnel=NEBULA),
    Limit("tcp4", 0.9, at_least=True, own="tcp"),
    Limit("tcp_reverse", 0.9, at_least=True, own="tcp"),
    Limit("tcp_cut", 3.0, at_least=True, tunnel=WG),
    Limit("udp1300", 2.2, at_least=True, tunnel=WG),
    Limit("udp64", 2.4, at_least=True, tunnel=WG),
    Limit("rtt_idle", 1.15, at_least=False, tunnel=WG),
    Limit("rtt_warm", 1.0, at_least=False, tunnel=WG),
    Limit("rtt_loaded", 5.0, at_least=False),
    Limit("cpu", 0.15, at_least=False, tunnel=WG),
    Limit("memory", 80.0, at_least=False),
    Limit("start", 1.0, at_least=False),
    *(Limit(name, 0.95, at_least=True, tunnel=WG) for name in LOSSES),
    Limit("memory_per_node", 100.0, at_least=False),
    Limit("tcp", 1.0, at_least=True, tunnel=OPENVPN, of="tunmesh-https"),
)


@dataclass(frozen=True)
class Verdict:
    """How a figure of tunmesh compares with a limit."""

    limit: Limit
    value: float
    ratio: float
    passed: bool


def judge(medians: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    """Compare the medians of a run (by tunnel, then measure) with every limit that applies."""
    verdicts = []
    for limit in LIMITS:
        ours = medians.get(limit.of, {})
        value = ours.get(limit.measure)
        reference: float | None = 1.0
        if limit.tunnel is not None:
            reference = medians.get(limit.tunnel, {}).get(limit.measure)
        elif limit.own is not None:
            reference = ours.get(limit.own)
        if value is None or not reference:
            continue
        ratio = value / reference
        passed = ratio >= limit.factor if limit.at_least else ratio <= limit.factor
        verdicts.append(Verdict(limit, value, ratio, passed))
    return verdicts
