"""The figures that are kept in `benchmarks/results/`, each run with its conditions."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measures import MEASURES
from docs.generated.sources import prose

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def results() -> str:
    """Each run that is kept, the newest first."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"), reverse=True)]
    if not runs:
        return "None is kept at present."
    return "\n".join(line for run in runs for line in _run(run))


def _run(run: dict[str, Any]) -> list[str]:
    machine, tunnels = run["machine"], run["tunnels"]
    rounds = "one round" if run["rounds"] == 1 else f"{run['rounds']} rounds"
    missed = [
        f"`{limit['measure']}` ({limit['ratio']:.2f} instead of {limit['limit']:g})"
        for limit in run["limits"]
        if not limit["passed"]
    ]
    conditions = (
        f"{rounds}, {run['seconds']} s for each load; {machine['cores']} cores of "
        f"{machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}; load average "
        f"before {run['load_before']:.2f}. Limits that were missed: {', '.join(missed) or 'none'}."
    )
    return [
        f"### {run['began'][:16].replace('T', ', ')}",
        "",
        conditions[:1].upper() + conditions[1:],
        "",
        *_table(["", *tunnels], _rows(list(tunnels.values()))),
        "",
        *(
            f"- {name}: {prose(of['version'])}; {of['configuration']}"
            for name, of in tunnels.items()
        ),
        "",
    ]


def _rows(tunnels: Sequence[dict[str, Any]]) -> Iterable[list[str]]:
    for name, measure in MEASURES.items():
        values = [[figures[name] for figures in of["rounds"] if name in figures] for of in tunnels]
        if any(values):
            yield [prose(measure.title), *(_cell(found, measure.digits) for found in values)]


def _cell(values: Sequence[float], digits: int) -> str:
    """A median, and between what the figures lay."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
