"""The command line: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measures import MEASURES, Plan, measure
from benchmarks.processes import BenchmarkError, run
from benchmarks.report import Entry, Report
from benchmarks.tunnels import TUNNELS

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CONGESTION = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def names(known: Sequence[str], text: str) -> list[str]:
    """Return the comma-separated names in `text`, if all are known."""
    chosen = [word for word in text.split(",") if word]
    if unknown := [word for word in chosen if word not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: not one of {', '.join(known)}")
    return chosen


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    all_tunnels = [tunnel.name for tunnel in TUNNELS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="TUNNEL,...",
        type=lambda text: names(all_tunnels, text),
        default=all_tunnels,
        help="compare these tunnels",
    )
    parser.add_argument(
        "--measures",
        metavar="MEASURE,...",
        type=lambda text: names(list(MEASURES), text),
        default=list(MEASURES),
        help="take these measures",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--seconds", type=int, default=2, help="length of each load (2)")
    parser.add_argument("--output", type=Path, help="where the JSON goes (benchmarks/results/)")
    parser.add_argument("--list", action="store_true", help="list tunnels and measures, and end")
    return parser.parse_args(arguments)


def build_relay(directory: Path) -> Path | None:
    """Compile the relay; None, with a word on stderr, where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler: nothing is measured under loss", file=sys.stderr)
        return None
    program = directory / "relay"
    run([compiler, "-O2", "-o", program, HERE / "relay.c"])
    return program


def compare(report: Report, plan: Plan) -> None:
    """Take every measure of every tunnel, round after round."""
    for number in range(report.rounds):
        for entry in report.entries:
            print(f"round {number + 1} of {report.rounds}: {entry.tunnel.name}", file=sys.stderr)
            figures, failures = measure(entry.tunnel, plan, first_round=number == 0)
            entry.rounds.append(figures)
            entry.failures += failures
            for failure in failures:
                print(f"  {failure}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the tables, keep the figures; 1 when a limit is missed or a tunnel failed."""
    options = parse(arguments)
    chosen = [tunnel for tunnel in TUNNELS if tunnel.name in options.only]
    skipped = {tunnel.name: reason for tunnel in chosen if (reason := tunnel.missing())}
    entries = [Entry(tunnel, tunnel.version()) for tunnel in chosen if tunnel.name not in skipped]
    if options.list:
        for entry in entries:
            print(f"{entry.tunnel.name}: {entry.version}; {entry.tunnel.configuration}")
        for name, reason in skipped.items():
            print(f"{name}: left out, {reason}")
        print("measures:", ", ".join(MEASURES))
        return 0

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that testbeds are closed
    report = Report(options.seconds, options.rounds, entries, skipped)
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(
            measures=frozenset(options.measures),
            seconds=options.seconds,
            relay=build_relay(Path(scratch)),
            congestion=frozenset(CONGESTION.read_text().split()),
        )
        compare(report, plan)

    print(report.to_markdown())
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    output = options.output or RESULTS / f"{stamp}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.to_json())
    missed = any(not verdict.passed for verdict in report.verdicts())
    return 1 if missed or any(entry.failures for entry in entries) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
