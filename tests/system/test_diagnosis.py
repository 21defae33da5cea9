"""Faults that were planted, and what the diagnostic commands say of them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
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


def findings(node: Node, *, code: int) -> dict[str, dict[str, str]]:
    """What the doctor finds on a node's host, by check, the worst of each."""
    arguments = ("doctor", "--json", "-c", node.config, "--socket", node.socket)
    document = json.loads(tunmesh(node, *arguments, code=code))
    assert document["healthy"] is (code == 0)
    return {found["check"]: found for found in reversed(document["findings"])}


def test_doctor_names_the_fault_and_what_mends_it(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    a = mesh.add("a")
    well = findings(a, code=0)
    assert well["networks"]["level"] == well["ipv6"]["level"] == well["ports"]["level"] == "ok"

    a.host.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    a.host.sysctl("net/ipv4/conf/all/rp_filter", "1")
    a.host.sysctl("net/ipv4/conf/default/rp_filter", "1")
    a.host.ip("link", "add", "lan", "type", "veth", "peer", "name", "switch")
    for end in ("lan", "switch"):
        a.host.ip("link", "set", end, "up")
    a.host.ip("address", "add", "10.42.77.1/24", "dev", "lan")
    a.config.chmod(0o644)
    ill = findings(a, code=1)
    assert ill["ipv6"]["mend"] == "sysctl -w net.ipv6.conf.default.disable_ipv6=0"
    assert "10.42.77.0/24 by lan" in ill["networks"]["text"]
    assert ill["rp_filter"]["level"] == "warning"
    assert ill["secret"]["mend"] == f"chmod 600 {a.config}"

    # What it says to do is what helps.
    for check in ("ipv6", "rp_filter", "networks", "secret"):
        command = ill[check]["mend"].partition(",")[0].split()
        subprocess.run(a.host.command(*command), check=True, capture_output=True)
    assert {found["level"] for found in findings(a, code=0).values()} <= {"ok", "notice"}
    a.start()
    eventually(a.ready, 10, "the node runs")
    running = findings(a, code=0)
    assert running["peers"]["level"] == "notice"
    assert "ports" not in running


def tshark(path: Path, *fields: str) -> list[dict[str, str]]:
    """The packets of a file as tshark reads them."""
    options = [option for field in fields for option in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=|", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    return [dict(zip(fields, line.split("|"), strict=True)) for line in done.stdout.splitlines()]


def test_capture_is_read_by_others_with_the_verdicts(
    meshes: MeshFactory, program: Callable[[str], str]
) -> None:
    program("tshark")
    mesh = meshes("a", "b")
    for name in "ab":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh.expect_reachable(5, mesh.start())
    a, b = mesh["a"], mesh["b"]
    path = mesh.directory / "a.pcapng"
    capture = a.host.popen(
        *("env", "--default-signal=INT"),  # where the tests run in the background it is ignored
        *(*TUNMESH, "capture", "-w", path, "--seconds", 20, "--socket", a.socket),
        stderr=subprocess.PIPE,
    )
    eventually(path.exists, 10, "the capture has begun")
    a.host.run("ping", "-n", "-c", 3, "-i", 0.05, "-s", 100, b.overlay4)
    for target in ("10.42.9.9", "10.43.1.1"):
        a.host.run("ip", "route", "replace", target, "dev", "tun1")
        lost = ("ping", "-n", "-c", "1", "-W", "1", "-I", a.overlay4, target)
        subprocess.run(a.host.command(*lost), capture_output=True, check=False)
    time.sleep(0.2)
    capture.send_signal(signal.SIGINT)
    _, told = capture.communicate(timeout=10)
    assert capture.returncode == 0
    assert b"0 lost" in told
    packets = tshark(path, "frame.interface_name", "ip.dst", "icmp.type", "frame.comment")
    seen = Counter(
        (packet["frame.interface_name"], packet["ip.dst"], packet["frame.comment"])
        for packet in packets
        if packet["icmp.type"] in {"0", "8"}
    )
    assert seen == {
        ("inside", b.overlay4, "to b"): 3,
        ("outside", a.overlay4, "from b, delivered"): 3,
        ("inside", "10.42.9.9", "dropped: no_route"): 1,
        ("dropped", "10.42.9.9", "no_route: from this host"): 1,
        ("inside", "10.43.1.1", "dropped: outside_network"): 1,
        ("dropped", "10.43.1.1", "outside_network: from this host"): 1,
    }
    assert eventually(lambda: a.status()["peers"][0]["state"] == "up", 1, "the node goes on")
