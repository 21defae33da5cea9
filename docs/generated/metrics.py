"""Every metric, made of the table that `/metrics` is made of."""

from __future__ import annotations

from docs.generated.sources import prose
from tunmesh.admin.metrics import BUILD_INFO, METRICS, START_TIME


def metrics() -> str:
    """Name, kind, labels and meaning of each metric."""
    rows = [(metric.shown_name, metric.kind, metric.labels, metric.meaning) for metric in METRICS]
    rows += [
        (START_TIME, "gauge", (), "When the node started, in seconds since 1970."),
        (BUILD_INFO, "gauge", ("version",), "Always 1; the version of the node is in its label."),
    ]
    lines = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for name, kind, labels, meaning in rows:
        shown = " ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {shown} | {prose(meaning)} |")
    return "\n".join(lines)
