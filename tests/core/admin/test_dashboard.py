"""The Grafana dashboard asks for metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tunmesh.admin.metrics import BUILD_INFO, METRICS, START_TIME

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "deploy" / "grafana" / "tunmesh.json").read_text()
)
#: What prometheus_client tells of any process.
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def queries() -> list[str]:
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return found + [v["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]


def test_every_metric_exists_with_its_labels() -> None:
    known = {metric.shown_name: set(metric.labels) for metric in METRICS}
    known |= {START_TIME: set(), BUILD_INFO: {"version"}, **{name: set() for name in PROCESS}}
    for query in queries():
        names = re.findall(r"\b(?:tunmesh|process)_[a-z_]+\b", query)
        assert names, query
        for name in names:
            assert name in known, query
            for by in re.findall(r"by \(([^)]*)\)", query):
                assert set(by.split(", ")) <= known[name] | {"instance"}, query


def test_counters_are_rated_and_gauges_are_not() -> None:
    for query in queries():
        assert ("rate(" in query) == bool(re.search(r"_total\b", query)), query


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert grid["x"] + grid["w"] <= 24
