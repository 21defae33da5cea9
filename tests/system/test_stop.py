"""How a node ends: at once, and with nothing left of it."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any

import pytest

from tests.system.bulk import flow
from tests.system.conftest import MeshFactory
from tests.system.lab import Host, eventually
from tests.system.node import PATIENCE, STOP_LIMIT, Mesh


def traces(host: Host) -> dict[str, Any]:
    """All that a node could leave behind on its host."""
    return {
        "links": host.ip("-j", "link"),
        "addresses": host.ip("-j", "address"),
        "routes": host.ip("-j", "-4", "route", "show", "table", "all"),
        "routes6": host.ip("-j", "-6", "route", "show", "table", "all"),
        "rules": host.ip("-j", "rule") + host.ip("-j", "-6", "rule"),
        "sockets": host.sockets(),
        "processes": host.processes(),
    }


def pair(meshes: MeshFactory) -> tuple[Mesh, dict[str, Any]]:
    """Two nodes, of which b is to end, and what is to be left of b."""
    mesh = meshes("a", "b")
    for name in "ab":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh["a"].start()
    eventually(mesh["a"].ready, 5 * PATIENCE, "a is up")
    before = traces(mesh["b"].host)
    return mesh, before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(meshes: MeshFactory, number: signal.Signals) -> None:
    mesh, before = pair(meshes)
    b = mesh["b"]
    mesh.expect_reachable(3, b.start())
    assert traces(b.host) != before
    b.stop(number)
    assert traces(b.host) == before
    assert not b.socket.exists()
    eventually(lambda: "b" not in mesh["a"].peers(), 1, "its peer knows that it left")


def test_two_signals_are_one(meshes: MeshFactory) -> None:
    mesh, before = pair(meshes)
    b = mesh["b"]
    mesh.expect_reachable(3, b.start())
    began = b.kill(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        b.kill(signal.SIGTERM)
    b.ended(began)
    assert traces(b.host) == before


def test_a_signal_under_load_leaves_nothing(meshes: MeshFactory) -> None:
    mesh, before = pair(meshes)
    a, b = mesh["a"], mesh["b"]
    mesh.expect_reachable(3, b.start())
    with flow(a.host, b.host, b.overlay4, seconds=60, abandon=True):
        time.sleep(1.5)
        b.stop()
    left = traces(b.host)
    left["sockets"] = [line for line in left["sockets"] if not line.startswith("tcp")]
    assert left == before


@pytest.mark.parametrize("delay", [0.02, 0.2, 0.4, 0.7])
def test_a_signal_during_the_start_leaves_nothing(meshes: MeshFactory, delay: float) -> None:
    mesh, before = pair(meshes)
    b = mesh["b"]
    b.start()
    time.sleep(delay)
    began = b.kill(signal.SIGTERM)
    assert b.process is not None
    code = b.process.wait(STOP_LIMIT)
    assert time.monotonic() - began < STOP_LIMIT
    assert code in {0, -signal.SIGTERM}  # the latter before the interpreter is up
    assert "Traceback" not in b.log_text()
    assert traces(b.host) == before


def test_a_node_without_peers_ends_well(meshes: MeshFactory) -> None:
    mesh = meshes("b")
    b = mesh.add("b", ["udp://10.99.0.250:4567"])
    before = traces(b.host)
    b.start()
    eventually(b.ready, 5, "b is up")
    b.stop()
    assert traces(b.host) == before


def test_a_killed_node_leaves_nothing_that_hinders_the_next(meshes: MeshFactory) -> None:
    mesh, before = pair(meshes)
    b = mesh["b"]
    mesh.expect_reachable(3, b.start())
    b.kill()
    assert b.socket.exists()
    eventually(lambda: traces(b.host) == before, 2, "the kernel has cleaned up")
    mesh.expect_reachable(3, b.start())
    b.stop()
    assert not b.socket.exists()
