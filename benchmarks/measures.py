"""What is measured, and how.

A *session* starts a tunnel on a testbed once and takes several measures of it, so that a figure
costs no start of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, testbed
from benchmarks.processes import BenchmarkError
from benchmarks.testbed import Testbed
from benchmarks.tunnels import Tunnel

SETTLE = 1.0  # seconds for handshakes and the discovery of path MTUs to end
RTT_MS = 20.0  # of the lossy underlay
LOSS_SECONDS = 2  # added to the length of a load, since congestion control needs some round trips
FIRST_NODES = 5  # of a mesh, whose memory holds what allocators keep in reserve, too
MORE_NODES = 16  # by which it then grows for the memory of a further node
MEGA = 1e6


@dataclass(frozen=True)
class Measure:
    """One column of the result.

    Attributes:
        name: Its key in the JSON and on the command line.
        title: Its heading, with the unit.
        digits: Decimals to print.
    """

    name: str
    title: str
    digits: int = 0


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("tcp", "TCP x1 Mbit/s"),
        Measure("tcp4", "TCP x4 Mbit/s"),
        Measure("tcp_reverse", "TCP reverse Mbit/s"),
        Measure("tcp_cut", "TCP x1 never rejoined Mbit/s"),
        Measure("udp1300", "UDP 1300 B Mbit/s"),
        Measure("udp64", "UDP 64 B kpps", 1),
        Measure("rtt_idle", "RTT idle us"),
        Measure("rtt_warm", "RTT warm us"),
        Measure("rtt_loaded", "RTT loaded ms", 2),
        Measure("cpu", "CPU s/GB", 2),
        Measure("memory", "peak RSS MiB", 1),
        Measure("start", "start s", 2),
        Measure("loss01_cubic", "TCP 0.1 % loss cubic Mbit/s", 1),
        Measure("loss01_bbr", "TCP 0.1 % loss BBR Mbit/s", 1),
        Measure("loss1_cubic", "TCP 1 % loss cubic Mbit/s", 1),
        Measure("loss1_bbr", "TCP 1 % loss BBR Mbit/s", 1),
        Measure("memory_per_node", "KiB for a further node"),
    )
}

LOSSES = {
    "loss01_cubic": (0.001, "cubic"),
    "loss01_bbr": (0.001, "bbr"),
    "loss1_cubic": (0.01, "cubic"),
    "loss1_bbr": (0.01, "bbr"),
}


@dataclass(frozen=True)
class Plan:
    """What the user asked for.

    Attributes:
        measures: Names of the measures to take.
        seconds: Length of each load.
        relay: The program that delays and loses datagrams, or None when it cannot be built.
        congestion: The congestion controls that the kernel has.
    """

    measures: frozenset[str]
    seconds: int
    relay: Path | None
    congestion: frozenset[str]

    def wants(self, names: Iterable[str]) -> bool:
        """Return whether one of these measures is asked for."""
        return not self.measures.isdisjoint(names)


Figures = dict[str, float]


def start_all(tunnel: Tunnel, bed: Testbed) -> float:
    """Start a tunnel on every node; return the time until the second answered the first."""
    tunnel.prepare(bed.nodes)
    began = time.monotonic()
    for node in bed.nodes:
        tunnel.start(node, [other for other in bed.nodes if other is not node])
    load.wait_for_reply(bed.nodes[0], tunnel.target(bed.nodes[1]))
    took = time.monotonic() - began
    time.sleep(SETTLE)
    return took


def on_wire(tunnel: Tunnel, plan: Plan) -> Figures:
    """Measure on a plain wire: throughput, round-trip times, cost."""
    with testbed.wire() as bed:
        figures = {"start": start_all(tunnel, bed)}
        first = bed.nodes[0]
        target = tunnel.target(bed.nodes[1])

        if plan.wants(["rtt_idle"]):
            figures["rtt_idle"] = load.mean_rtt_us(first, target, "-i", "0.01", "-c", "100")
        if plan.wants(["rtt_warm"]):
            figures["rtt_warm"] = load.mean_rtt_us(first, target, "-f", "-c", "3000")

        spent = arrived = 0.0
        for name, options in (("tcp", ()), ("tcp4", ("-P", "4")), ("tcp_reverse", ("-R",))):
            if plan.wants([name]):
                result = load.load(bed, target, plan.seconds, "-C", "cubic", *options)
                figures[name] = result.bits_per_second / MEGA
                spent += result.cpu_s
                arrived += result.arrived
        if arrived:
            figures["cpu"] = spent / (arrived / 1e9)

        for name, size in (("udp1300", 1300), ("udp64", 64)):
            if plan.wants([name]):
                result = load.load(bed, target, plan.seconds, "-u", "-b", "0", "-l", str(size))
                rate = result.bits_per_second
                figures[name] = rate / MEGA if name == "udp1300" else rate / 8 / size / 1000
        if plan.wants(["rtt_loaded"]):
            figures["rtt_loaded"] = load.loaded_rtt_ms(bed, target, plan.seconds, "-C", "cubic")
        figures["memory"] = max(node.peak_mib() for node in bed.nodes)
        bed.check_alive()
    return figures


def on_cut_wire(tunnel: Tunnel, plan: Plan) -> Figures:
    """Measure where the kernel cuts every large packet up and nothing puts it together again."""
    with testbed.wire() as bed:
        for node in bed.nodes:
            node.ip("link", "set", node.device, "gso_max_segs", 1)
        start_all(tunnel, bed)
        target = tunnel.target(bed.nodes[1])
        result = load.load(bed, target, plan.seconds, "-C", "cubic")
        bed.check_alive()
    return {"tcp_cut": result.bits_per_second / MEGA}


def on_lossy_path(tunnel: Tunnel, plan: Plan) -> Figures:
    """Measure TCP over 20 ms of round-trip time and random loss."""
    figures: Figures = {}
    if plan.relay is None:
        return figures
    for loss in sorted({loss for loss, _ in LOSSES.values()}):
        names = {
            name: control
            for name, (its_loss, control) in LOSSES.items()
            if its_loss == loss and name in plan.measures and control in plan.congestion
        }
        if not names:
            continue
        with testbed.relayed(
            plan.relay, tunnel.port, delay_ms=RTT_MS / 2, loss=loss, seed=1
        ) as bed:
            start_all(tunnel, bed)
            target = tunnel.target(bed.nodes[1])
            for name, control in names.items():
                result = load.load(bed, target, plan.seconds + LOSS_SECONDS, "-C", control)
                figures[name] = result.bits_per_second / MEGA
            bed.check_alive()
    return figures


def on_star(tunnel: Tunnel, plan: Plan) -> Figures:
    """Measure by how much one node grows when others join."""
    del plan
    with testbed.star(FIRST_NODES + MORE_NODES) as bed:
        tunnel.prepare(bed.nodes)
        hub, *others = bed.nodes
        tunnel.start(hub, others)
        before = 0
        for node in others:
            tunnel.start(node, [other for other in bed.nodes if other is not node])
            load.wait_for_reply(hub, tunnel.target(node))
            if node.number == FIRST_NODES:
                time.sleep(SETTLE)
                before = hub.anonymous_kib()
        time.sleep(SETTLE)
        grown = hub.anonymous_kib() - before
        bed.check_alive()
    return {"memory_per_node": grown / MORE_NODES}


@dataclass(frozen=True)
class Session:
    """Measures that one start of a tunnel yields.

    Attributes:
        take: Takes them.
        yields: Their names.
        once: Taken in the first round only.
        baseline: Taken also of tunnels that are not measured on every underlay.
    """

    take: Callable[[Tunnel, Plan], Figures]
    yields: tuple[str, ...]
    once: bool = False
    baseline: bool = False


ON_WIRE = tuple(
    name for name in MEASURES if name not in {"tcp_cut", "memory_per_node"} and name not in LOSSES
)

SESSIONS = (
    Session(on_wire, ON_WIRE, baseline=True),
    Session(on_cut_wire, ("tcp_cut",)),
    Session(on_lossy_path, tuple(LOSSES)),
    Session(on_star, ("memory_per_node",), once=True),
)


def measure(tunnel: Tunnel, plan: Plan, *, first_round: bool) -> tuple[Figures, list[str]]:
    """Take the measures that a plan asks for, once; return them and what failed."""
    figures: Figures = {}
    failures: list[str] = []
    for session in SESSIONS:
        if (
            not plan.wants(session.yields)
            or (session.once and not first_round)
            or not (tunnel.everywhere or session.baseline)
        ):
            continue
        try:
            taken = session.take(tunnel, plan)
        except BenchmarkError as error:
            failures.append(str(error))
            continue
        figures |= {name: value for name, value in taken.items() if name in plan.measures}
    if tunnel.port == 0:  # nothing of its own to charge
        for name in ("cpu", "memory", "start"):
            figures.pop(name, None)
    return figures, failures
