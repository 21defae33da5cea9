"""What the benchmarks demand."""

from __future__ import annotations

from benchmarks.limits import LIMITS
from benchmarks.measures import MEASURES
from docs.generated.sources import prose


def limits() -> str:
    """What `make bench` demands."""
    lines = ["| of | measure | limit |", "| --- | --- | --- |"]
    for limit in LIMITS:
        word = "at least" if limit.at_least else "at most"
        measure = MEASURES[limit.measure]
        reference = limit.tunnel or (limit.own and f"own `{limit.own}`")
        bound = f"{limit.factor:g} times {reference}" if reference else f"{limit.factor:g}"
        title = prose(measure.title)
        lines.append(f"| {limit.of} | `{limit.measure}`: {title} | {word} {bound} |")
    return "\n".join(lines)
