"""Real nodes in namespaces, traffic between them, and churn: one that stays does not grow.

``SOAK_MINUTES`` says how long, 10 unless told.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import observer_plugin
from tests.soak.tables import descriptors, growth, rss_kib, threads
from tests.system.conftest import stop_well
from tests.system.lab import Lab, eventually
from tests.system.node import PATIENCE, Mesh, Node

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
ROOT = Path(__file__).parents[2]
#: Seconds between two events of the churn, and seconds that a node is away.
CHURN, AWAY = 8.0, 1.0
#: The share of the run at first that does not count: caches and pools fill.
WARM_UP = 1 / 3
#: What the memory of a node may grow after that, in KiB.
RSS_SLACK = 3 * 1024
#: Verified records are remembered up to a number that so short a run does not reach; the day in
#: memory, with a smaller one, shows that it holds.
BOUNDED = ("NodeRecord.", "objects NodeRecord", "RecordVerifier.")
TABLES = {
    "plugins": {"enabled": ["tun_linux", "ifaddr", "udp", "https", "igmp", "observer"]},
    "timing": {"rekey_after": "10s", "reject_after": "15s"},
}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    observer_plugin.dist_info(tmp_path / "site")
    made = Mesh(Lab(["a", "b", "c", "d"]))
    for name in "abcd":
        others = [made.lab[other].url() for other in "abcd" if other != name]
        environment = {
            "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}",
            "OBSERVED": str(tmp_path / f"{name}.jsonl"),
        }
        made.add(name, others, options=TABLES, env=environment)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def traffic(mesh: Mesh) -> Iterator[None]:
    """Pings from each node to the next, 50 a second, of IPv4 and IPv6, until the end."""
    nodes = list(mesh)
    pings = [
        source.host.popen(
            *("ping", "-n", "-q", "-i", "0.02", "-s", "1000", address),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for source, target in zip(nodes, nodes[1:] + nodes[:1], strict=True)
        for address in target.overlay
    ]
    try:
        yield
    finally:
        for ping in pings:
            ping.kill()
            ping.wait()


def churn(node: Node, decide: random.Random) -> str:
    """Have a node die, or end, or stand still for a while; tell which."""
    kind = decide.choice(("SIGKILL", "SIGTERM", "SIGSTOP"))
    if kind == "SIGSTOP":
        node.kill(signal.SIGSTOP)
        time.sleep(AWAY)
        node.kill(signal.SIGCONT)
        return kind
    if kind == "SIGKILL":
        node.kill()
    else:
        node.stop()
    time.sleep(AWAY)
    node.start()
    return kind


def test_ten_minutes(mesh: Mesh, tmp_path: Path) -> None:
    a = mesh["a"]
    mesh.expect_reachable(10, mesh.start())
    assert a.process is not None
    pid = a.process.pid
    decide = random.Random(1)
    done: Counter[str] = Counter()
    seen: list[dict[str, int]] = []
    began = time.monotonic()
    with traffic(mesh):
        while time.monotonic() - began < MINUTES * 60:
            time.sleep(CHURN - AWAY)
            figures = {"rss": rss_kib(pid), "fds": descriptors(pid), "threads": threads(pid)}
            seen.append(figures)
            print(f"{time.monotonic() - began:5.0f} s  {figures}  {dict(done)}", flush=True)  # noqa: T201
            done[churn(mesh[decide.choice("bcd")], decide)] += 1
    mesh.expect_reachable(10, time.monotonic())
    eventually(lambda: len(a.peers()) == 3, 10 * PATIENCE, "three peers")
    inside = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    seen = seen[int(len(seen) * WARM_UP) :]
    inside = [
        {name: size for name, size in sizes.items() if not name.startswith(BOUNDED)}
        for sizes in inside[int(len(inside) * WARM_UP) :]
    ]
    rss = [figures.pop("rss") for figures in seen]
    print("inside:", {name: [x[name] for x in inside] for name in ("tasks", "objects")})  # noqa: T201
    assert growth(seen, 1.0, 2) == {}
    assert growth(inside, 1.3, 20) == {}
    assert growth([{"tasks": x["tasks"]} for x in inside], 1.0, 3) == {}
    assert max(rss[-3:]) - min(rss[:3]) < RSS_SLACK, rss
    stop_well(mesh)
