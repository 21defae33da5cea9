"""A real Prometheus looks at three nodes, over the network of the laboratory."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.system import bulk
from tests.system.conftest import MeshFactory
from tests.system.lab import Host, eventually
from tests.system.node import PATIENCE, Mesh

PORT = 9110
SERVER = 9090
MIB = 1 << 20


def get(host: Host, address: str, port: int, path: str) -> tuple[int, str]:
    """Ask by HTTP, from a host."""
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def watched(meshes: MeshFactory) -> Mesh:
    mesh = meshes("a", "b", "c", "watch", families=(4,))
    for name in "abc":
        listen = f"{mesh.lab[name].address4}:{PORT}"
        labels = {"site": f"site-{name}"}
        options = {"admin": {"listen": listen, "labels": labels}}
        mesh.add(name, [mesh.lab["a"].url()], options=options)
    mesh.expect_reachable(5, mesh.start())
    mesh.expect_peers()
    return mesh


def test_a_prometheus_learns_the_throughput_of_three_nodes(
    meshes: MeshFactory, program: Callable[[str], str]
) -> None:
    prometheus, promtool = program("prometheus"), program("promtool")
    mesh = watched(meshes)
    watch = mesh.lab["watch"]
    for name in "abc":
        address = mesh.lab[name].address4
        assert get(watch, address, PORT, "/ready")[0] == 200
        status, health = get(watch, address, PORT, "/health")
        assert (status, all(check["ok"] for check in json.loads(health).values())) == (200, True)
        shown = json.loads(get(watch, address, PORT, "/api/v1/status")[1])
        assert shown["node"]["name"] == name
        text = get(watch, address, PORT, "/metrics")[1]
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr

    folder = mesh.directory / "prometheus"
    folder.mkdir()
    targets = [f"{mesh.lab[name].address4}:{PORT}" for name in "abc"]
    jobs = [{"job_name": "tunmesh", "static_configs": [{"targets": targets}]}]
    config = {"global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"}}
    (folder / "prometheus.yml").write_text(json.dumps({**config, "scrape_configs": jobs}))
    server = watch.popen(
        prometheus,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{SERVER}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(query: str) -> list[dict[str, Any]]:
        with contextlib.suppress(OSError):  # it does not listen yet
            path = f"/api/v1/query?query={quote(query)}"
            status, body = get(watch, "127.0.0.1", SERVER, path)
            if status == 200:
                found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
                return found
        return []

    try:
        eventually(lambda: len(ask("tunmesh_healthy == 1")) == 3, 15 * PATIENCE, "all are scraped")
        a, b = mesh["a"], mesh["b"]
        with bulk.flow(a.host, b.host, b.overlay4, seconds=4):
            rates = eventually(
                lambda: ask(f"rate(tunmesh_peer_tx_bytes_total[2s]) * 8 > {100 * MIB}"),
                10 * PATIENCE,
                "the throughput is known",
            )
        seen = {(rate["metric"]["site"], rate["metric"]["peer"]) for rate in rates}
        assert ("site-a", "b") in seen
        assert {rate["metric"]["transport"] for rate in rates} == {"udp"}
        b.kill()
        gone = 'tunmesh_peers{site="site-a",state="up"} == 1'
        eventually(lambda: ask(gone), 10 * PATIENCE, "one peer less")
        seeds_gone = mesh.lab["c"].address4  # c knows a's URL, and reaches a still
        assert get(watch, seeds_gone, PORT, "/health")[0] == 200
    finally:
        server.terminate()
        server.wait(10)
