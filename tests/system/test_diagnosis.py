"""Faults that were planted, and what the diagnostic commands say of them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import TUNMESH, Mesh, Node


def tunmesh(node: Node, *arguments: object, code: int = 0) -> str:
    """What a command prints on a node's host."""
    done = subprocess.run(
        node.host.command(*TUNMESH, *map(str, arguments)),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def explain(node: Node, source: str, destination: str) -> Any:
    return json.loads(
        tunmesh(node, "explain", source, destination, "--json", "--socket", node.socket)
    )


def conclusion(node: Node, source: str, destination: str) -> str:
    return tunmesh(node, "explain", source, destination, "--socket", node.socket).splitlines()[-1]


def lopsided(meshes: MeshFactory) -> Mesh:
    """Node a has a subnet that b refuses, b one whose packets its host does not forward."""
    mesh = meshes("a", "b")
    url = mesh.lab["a"].url()
    mesh.add("a", options={"node": {"subnets": ["192.168.7.0/24"]}})
    mesh.add(
        "b",
        [url],
        options={
            "node": {"subnets": ["192.168.9.0/24"]},
            "routing": {"accept_subnets": ["10.0.0.0/8"]},
        },
    )
    mesh.expect_reachable(5, mesh.start())
    mesh.expect_peers()
    return mesh


def test_explain_names_the_fault(meshes: MeshFactory) -> None:
    mesh = lopsided(meshes)
    a, b = mesh["a"], mesh["b"]
    eventually(lambda: b.status()["refused"], 5, "b refuses what a announces")

    found = explain(a, "-", b.overlay4)
    assert found["here"]["verdict"] == "sent"
    (hop,) = found["hops"]
    assert hop["answer"]["verdict"] == "delivered"
    assert hop["reply"]["peers"] == ["a"]
    assert hop["slices"] == 1
    assert hop["peer"]["links"][0]["transport"] == "udp"
    assert conclusion(a, a.overlay6, b.overlay6) == "DELIVERED"

    assert "no_route" in conclusion(a, "-", "10.42.9.9")
    refused = tunmesh(b, "explain", "-", "192.168.7.5", "--socket", b.socket)
    assert "192.168.7.0/24 of a: outside routing.accept_subnets" in refused
    assert conclusion(a, "192.168.7.5", b.overlay4).startswith("DROPPED by b: spoofed_source: ")
    assert conclusion(a, "-", "192.168.9.5") == (
        "STUCK at b: run `sysctl -w net.ipv4.ip_forward=1` there"
    )
    # What is said is what happens.
    before = a.drops()["no_route"]
    subprocess.run(
        a.host.command("ping", "-n", "-c", "1", "-W", "1", "10.42.9.9"),
        capture_output=True,
        check=False,
    )
    assert explain(a, "-", "10.42.9.9")["count"] == before + 1
