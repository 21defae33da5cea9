"""What an operator sees of a running node, by the commands."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import STOP_LIMIT, TUNMESH, Mesh, Node


@pytest.fixture
def mesh(meshes: MeshFactory) -> Mesh:
    mesh = meshes("a", "b", "c")
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh.expect_reachable(3, mesh.start())
    mesh.expect_peers()
    return mesh


def tunmesh(*arguments: object, code: int = 0) -> str:
    """What a command prints; on stderr, if it is to fail."""
    done = subprocess.run(
        [*TUNMESH, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def shape(value: Any) -> Any:
    """The keys and types of a document."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def covers(actual: Any, expected: Any) -> bool:
    """Whether a shape has at least what another has."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            key in actual and covers(actual[key], item) for key, item in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and all(
            covers(one, other) for one, other in zip(actual, expected, strict=False)
        )
    return bool(actual == expected)


EXPECTED = {
    "schema": "int",
    "version": "str",
    "mesh": {"name": "str", "networks": ["str"], "trust": "str"},
    "node": {
        "id": "str",
        "name": "str",
        "addresses": ["str"],
        "subnets": [],
        "endpoints": ["str"],
        "uptime_s": "float",
        "healthy": "bool",
    },
    "device": {"name": "str", "backend": "str", "mtu": "int", "offloads": ["str"]},
    "plugins": [
        {
            "name": "str",
            "distribution": "str",
            "version": "str",
            "roles": ["str"],
            "state": "str",
            "error": "NoneType",
        }
    ],
    "peers": [
        {
            "id": "str",
            "name": "str",
            "addresses": ["str"],
            "subnets": [],
            "state": "str",
            "via": "str",
            "links": [
                {
                    "transport": "str",
                    "endpoint": "str",
                    "state": "str",
                    "active": "bool",
                    "rtt_ms": "float",
                    "mtu": "int",
                    "cipher": "str",
                    "handshake_age_s": "float",
                    "rx_bytes": "int",
                    "tx_bytes": "int",
                }
            ],
            "rx_packets": "int",
            "tx_packets": "int",
            "rx_bytes": "int",
            "tx_bytes": "int",
            "last_seen_s": "float",
        }
    ],
    "routes": [{"prefix": "str", "kind": "str", "peers": ["str"], "source": "str"}],
    "groups": [],
    "drops": {"no_route": "int", "spoofed_source": "int"},
}


def test_status_as_json(mesh: Mesh) -> None:
    a, b = mesh["a"], mesh["b"]
    document = json.loads(tunmesh("status", "--json", "--socket", a.socket))
    assert covers(shape(document), EXPECTED), shape(document)
    assert document["schema"] == 1
    assert document["node"]["name"] == "a"
    assert f"{a.overlay4}/24" in document["node"]["addresses"]
    assert a.host.url() in document["node"]["endpoints"]
    assert document["node"]["healthy"] is True
    assert document["device"]["name"] == "tun1"
    assert {plugin["name"]: plugin["state"] for plugin in document["plugins"]}["udp"] == "active"
    peer = {peer["name"]: peer for peer in document["peers"]}["b"]
    assert peer["state"] == "up"
    assert set(peer["addresses"]) >= {b.overlay4, b.overlay6}
    assert peer["links"][0]["cipher"] in {"aes256gcm", "chacha20poly1305"}
    assert any(
        route["prefix"] == f"{b.overlay4}/32"
        and route["kind"] == "address"
        and route["peers"] == ["b"]
        for route in document["routes"]
    )


def test_tables(mesh: Mesh) -> None:
    a = mesh["a"]
    assert "10.42.1.2" in tunmesh("status", "-c", a.config)
    assert tunmesh("peers", "-c", a.config).splitlines()[1].startswith("b ")
    assert f"{mesh['c'].overlay4}/32" in tunmesh("routes", "--socket", a.socket)


def counters(node: Node, peer: str) -> tuple[int, int, int, int]:
    """Received and sent packets and bytes of one peer."""
    found = node.peers()[peer]
    return (found["rx_packets"], found["tx_packets"], found["rx_bytes"], found["tx_bytes"])


def test_counters_count_inner_packets_alone(mesh: Mesh) -> None:
    a, b = mesh["a"], mesh["b"]
    before = counters(a, "b")
    a.host.run("ping", "-n", "-c", 10, "-i", 0.01, "-s", 100, b.overlay4)
    time.sleep(0.1)
    grown = [new - old for new, old in zip(counters(a, "b"), before, strict=True)]
    assert grown == [10, 10, 1280, 1280]


def test_drops_are_counted_by_reason(mesh: Mesh) -> None:
    a = mesh["a"]
    before = a.drops()
    done = subprocess.run(
        a.host.command("ping", "-n", "-c", 3, "-i", 0.01, "-W", 1, "10.42.9.9"),
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert a.drops()["no_route"] - before["no_route"] == 3


def test_stop(mesh: Mesh) -> None:
    a = mesh["a"]
    assert a.process is not None
    began = time.monotonic()
    tunmesh("stop", "--socket", a.socket)
    assert a.process.wait(STOP_LIMIT) == 0
    assert time.monotonic() - began < STOP_LIMIT + 1  # the command itself takes its time, too
    error = tunmesh("status", "--socket", a.socket, code=1)
    assert error.count("\n") == 1
    assert "is tunmesh running" in error


def test_a_second_node_on_the_socket_is_refused(mesh: Mesh) -> None:
    a = mesh["a"]
    second = mesh.add("d", options={"admin": {"socket": str(a.socket)}})
    second.start()
    assert second.process is not None
    assert second.process.wait(10) == 1
    assert second.log_text().splitlines()[-1].endswith("stop it, or set admin.socket")
    eventually(a.ready, 1, "the first goes on")
