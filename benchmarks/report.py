"""The result of a run: JSON with every figure, and Markdown tables for a reader."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.limits import Verdict, judge
from benchmarks.measures import MEASURES, Figures
from benchmarks.processes import run
from benchmarks.tunnels import Tunnel

SCHEMA = 1


@dataclass
class Entry:
    """What one tunnel did, round by round."""

    tunnel: Tunnel
    version: str
    rounds: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, measure: str) -> list[float]:
        """Return a measure's figure of every round that has it."""
        return [figures[measure] for figures in self.rounds if measure in figures]

    def medians(self) -> Figures:
        """Return the median of every measure that was taken."""
        return {
            name: statistics.median(self.values(name)) for name in MEASURES if self.values(name)
        }


@dataclass
class Report:
    """A whole run."""

    seconds: int
    rounds: int
    entries: list[Entry]
    skipped: dict[str, str]
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    began: str = field(
        default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    )

    def verdicts(self) -> list[Verdict]:
        """Compare tunmesh with its limits."""
        return judge({entry.tunnel.name: entry.medians() for entry in self.entries})

    def to_json(self) -> str:
        """Return everything, for later comparison."""
        tunnels = {
            entry.tunnel.name: {
                "version": entry.version,
                "configuration": entry.tunnel.configuration,
                "rounds": [rounded(figures) for figures in entry.rounds],
                "median": rounded(entry.medians()),
                "failures": entry.failures,
            }
            for entry in self.entries
        }
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "began": self.began,
            "machine": machine(),
            "load_before": round(self.load_before, 2),
            "seconds": self.seconds,
            "rounds": self.rounds,
            "tunnels": tunnels,
            "skipped": self.skipped,
            "limits": [
                {
                    "tunnel": verdict.limit.of,
                    "measure": verdict.limit.measure,
                    "against": reference(verdict),
                    "value": round(verdict.value, 3),
                    "ratio": round(verdict.ratio, 3),
                    "limit": verdict.limit.factor,
                    "at_least": verdict.limit.at_least,
                    "passed": verdict.passed,
                }
                for verdict in self.verdicts()
            ],
        }
        return json.dumps(document, indent=1) + "\n"

    def to_markdown(self) -> str:
        """Return the figures, what was compared, and the limits."""
        parts = [self._figures(), self._tunnels()]
        if verdicts := self.verdicts():
            parts.append(limits_table(verdicts))
        parts += [
            "\n".join(f"- {entry.tunnel.name} failed: {failure}" for failure in entry.failures)
            for entry in self.entries
            if entry.failures
        ]
        return "\n\n".join(parts) + "\n"

    def _figures(self) -> str:
        shown = [entry for entry in self.entries if entry.rounds]
        rows = [
            [measure.title, *(cell(entry.values(measure.name), measure.digits) for entry in shown)]
            for measure in MEASURES.values()
            if any(entry.values(measure.name) for entry in shown)
        ]
        heading = "median (min-max)" if self.rounds > 1 else "one round"
        return table([heading, *(entry.tunnel.name for entry in shown)], rows)

    def _tunnels(self) -> str:
        about = machine()
        conditions = (
            f"{self.rounds} interleaved rounds, {self.seconds} s for each load, {about['cores']} "
            f"cores of {about['cpu']}, Linux {about['kernel']}, Python {about['python']}, "
            f"{about['iperf3']}; load average before: {self.load_before:.2f}."
        )
        lines = [
            conditions,
            "",
            *(
                f"- {entry.tunnel.name}: {entry.version}; {entry.tunnel.configuration}"
                for entry in self.entries
            ),
            *(f"- {name} was left out: {reason}" for name, reason in self.skipped.items()),
        ]
        return "\n".join(lines)


def reference(verdict: Verdict) -> str:
    """Name what a figure is compared with."""
    limit = verdict.limit
    if limit.own is not None:
        return f"its {limit.own}"
    return limit.tunnel or ""


def limits_table(verdicts: Iterable[Verdict]) -> str:
    """Return how tunmesh stands against its limits."""
    rows = []
    for verdict in verdicts:
        measure, against = MEASURES[verdict.limit.measure], reference(verdict)
        times = f" x {against}" if against else ""
        sign = ">=" if verdict.limit.at_least else "<="
        rows.append(
            [
                f"{verdict.limit.of}: {measure.title}",
                f"{verdict.value:,.{measure.digits}f}",
                f"{verdict.ratio:,.2f}{times}",
                f"{sign} {verdict.limit.factor:g}{times}",
                "pass" if verdict.passed else "FAIL",
            ]
        )
    return table(["limit", "median", "is", "must be", ""], rows)


def cell(values: Sequence[float], digits: int) -> str:
    """Return a median with its range."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose source is aligned as well."""
    lines = [header, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def row(words: Sequence[str]) -> str:
        first, *others = zip(words, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(word.rjust(width) for word, width in others)]
        return f"| {' | '.join(cells)} |"

    return "\n".join([row(header), row(rule), *map(row, lines[1:])])


def rounded(figures: Figures) -> Figures:
    """Return figures without digits that mean nothing."""
    return {name: round(value, 3) for name, value in figures.items()}


def machine() -> dict[str, Any]:
    """Describe where this runs."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": os.uname().release,
        "python": platform.python_version(),
        "iperf3": run(["iperf3", "--version"]).splitlines()[0],
    }
