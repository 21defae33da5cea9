"""A mesh without UDP: directly, through nginx, through a proxy, behind a load balancer."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pki import make, nginx
from tests.system.bulk import transfer
from tests.system.conftest import MeshFactory
from tests.system.lab import Host, eventually
from tests.system.node import PATIENCE, Mesh, Node

GIB = 1 << 30
PORT = 4443
BOTH = ["tun_linux", "udp", "https"]
#: A client's first flight that TLS 1.3 does not take, and what is no TLS at all.
ANNOYANCES = (
    b"",
    b"GET /tunmesh HTTP/1.1\r\nAuthorization: Bearer forged\r\n\r\n",
    bytes(range(256)) * 8,
    bytes.fromhex("160301002f0100002b0301") + bytes(32) + bytes.fromhex("000004002f00ff0100"),
)
_CONNECT_PROXY = Path(__file__).with_name("connect_proxy.py")


def https(**options: Any) -> dict[str, Any]:
    """The options of a node that has no other transport."""
    return {"plugins": {"enabled": ["tun_linux", "https"], "https": options}}


def url(mesh: Mesh, host: str, port: int = PORT) -> str:
    return f"https://{mesh.lab[host].address4}:{port}"


def listens(host: Host, address: str, port: int) -> bool:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return sock.connect_ex((address, port)) == 0


def only_from(mesh: Mesh, node: str, allowed: str) -> None:
    """Let nobody but one host connect to a node."""
    address = mesh.lab[allowed].address4
    mesh.lab.faults(f"tcp dport {PORT} ip saddr != {address} drop", hosts=[node])


def resident_kib(node: Node) -> int:
    """The memory that a node's process uses."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def links(node: Node) -> set[str]:
    """Where the links in use lead."""
    return {
        link["endpoint"]
        for peer in node.peers().values()
        for link in peer["links"]
        if link["active"]
    }


def test_four_nodes_are_a_mesh_over_https_alone(meshes: MeshFactory) -> None:
    mesh = meshes(*"abcd")
    for name in "abcd":
        mesh.add(name, [url(mesh, "a")], options=https())  # the first finds out that this is itself
    mesh.expect_reachable(5, mesh.start())
    mesh.expect_peers()
    for node in mesh:
        assert not [line for line in node.host.sockets() if line.startswith("udp")]
    outcome = transfer(mesh["b"].host, mesh["c"].host, mesh["c"].overlay4, GIB)
    print(outcome)  # noqa: T201  # pytest shows it
    mesh["a"].kill()
    mesh.expect_reachable(5, mesh.add("e", [url(mesh, "c")], options=https()).start())


def test_a_join_over_https_ends_on_udp_where_that_passes(meshes: MeshFactory) -> None:
    mesh = meshes(*"abc")
    for name in "abc":
        mesh.add(name, [url(mesh, "a")], options={"plugins": {"enabled": BOTH}})
    mesh.expect_reachable(5, mesh.start())
    for node in mesh:
        eventually(
            lambda node=node: (  # type: ignore[misc]
                len(links(node)) == 2 and all(link.startswith("udp://") for link in links(node))
            ),
            10 * PATIENCE,
            f"{node.name} uses udp alone",
        )


def test_strangers_by_the_hundred_cost_a_tunnel_nothing(meshes: MeshFactory) -> None:
    mesh = meshes(*"ab", "stranger", families=(4,))
    for name in "ab":
        mesh.add(name, [url(mesh, "a")], options=https())
    a, b = mesh["a"], mesh["b"]
    mesh.expect_reachable(5, mesh.start())
    stranger = mesh.lab["stranger"]
    for number in range(50):  # a listener takes only so many connections of one source
        stranger.ip("address", "add", f"10.99.0.{100 + number}/24", "dev", "eth0")

    def annoy() -> None:
        """Ten connections of each source: silent ones, garbage, TLS that fails, forged tokens."""
        with contextlib.ExitStack() as stack:
            for number in range(500):
                sock = stack.enter_context(stranger.socket(socket.AF_INET, socket.SOCK_STREAM))
                sock.bind((f"10.99.0.{100 + number % 50}", 0))
                sock.settimeout(5)
                with contextlib.suppress(OSError):  # refused already
                    sock.connect((a.host.address4, PORT))
                    sock.sendall(ANNOYANCES[number % len(ANNOYANCES)])
            time.sleep(1)

    annoy()  # what a first time costs is kept: buffers, modules
    before = resident_kib(a)
    ping = a.host.popen("ping", "-q", "-i", "0.02", "-w", "8", b.overlay4)
    for _ in range(3):
        annoy()
    report = ping.communicate(timeout=30)[0].decode()
    grown = resident_kib(a) - before
    print(report, f"grown by {grown} KiB")  # noqa: T201  # pytest shows it
    assert " 0% packet loss" in report
    assert grown < 12_000  # 8 KiB each until a limit is reached; a TLS connection kept would be 60
    refused = a.status()["transports"]["https"]
    assert sum(count for name, count in refused.items() if name.startswith("refused")) >= 1000


def test_a_node_that_nobody_can_dial_is_reached_over_its_own_streams(meshes: MeshFactory) -> None:
    mesh = meshes(*"abc")
    for name in "abc":
        mesh.add(
            name, [url(mesh, "a")], options=https(listen=[] if name == "c" else ["0.0.0.0:4443"])
        )
    mesh.expect_reachable(5, mesh.start())
    mesh.expect_peers()


@pytest.fixture
def serve() -> Iterator[Callable[..., None]]:
    """Run a server on a host until the end of the test; returns when it listens."""
    with contextlib.ExitStack() as stack:

        def run(host: Host, port: int, *command: object) -> None:
            process = host.popen(*command, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            eventually(lambda: listens(host, host.address4, port), 10, f"{command[0]} listens")

        yield run


@pytest.fixture
def through_nginx(program: Callable[[str], str], serve: Callable[..., None]) -> Callable[..., str]:
    """Run nginx on a host before the nodes of others; returns its URL."""
    program("nginx")

    def run(mesh: Mesh, host: str, *upstreams: str) -> str:
        place = mesh.lab[host]
        targets = [f"{mesh.lab[name].address4}:{PORT}" for name in upstreams]
        serve(place, 443, *nginx(mesh.directory, place.address4, 443, targets))
        return f"https://{place.address4}"

    return run


def test_a_gibibyte_through_nginx_that_ends_tls(
    meshes: MeshFactory, through_nginx: Callable[..., str]
) -> None:
    mesh = meshes("a", "b", "proxy", families=(4,))
    proxy = mesh.lab["proxy"].address4
    make(mesh.directory, proxy)
    options = https(external_cert_file=f"{mesh.directory}/{proxy}.pem")
    options["node"] = {"advertise": [f"https://{proxy}:443"]}
    only_from(mesh, "a", "proxy")
    mesh.add("a", options=options)
    mesh.add("b", [through_nginx(mesh, "proxy", "a")], options=https(listen=[]))
    mesh.expect_reachable(5, mesh.start())
    outcome = transfer(mesh["b"].host, mesh["a"].host, mesh["a"].overlay4, GIB)
    print(outcome)  # noqa: T201  # pytest shows it
    assert links(mesh["b"]) == {f"https://{proxy}:443"}


def test_a_gibibyte_through_a_connect_proxy(
    meshes: MeshFactory, serve: Callable[..., None]
) -> None:
    mesh = meshes("a", "b", "proxy", families=(4,))
    place = mesh.lab["proxy"]
    serve(place, 3128, sys.executable, _CONNECT_PROXY, 3128)
    only_from(mesh, "a", "proxy")
    mesh.add("a", options=https())
    options = https(listen=[], proxy=f"http://{place.address4}:3128")
    mesh.add("b", [url(mesh, "a")], options=options)
    mesh.expect_reachable(5, mesh.start())
    outcome = transfer(mesh["b"].host, mesh["a"].host, mesh["a"].overlay4, GIB)
    print(outcome)  # noqa: T201  # pytest shows it


def test_ten_joins_in_a_row_through_a_load_balancer(
    meshes: MeshFactory, through_nginx: Callable[..., str]
) -> None:
    mesh = meshes("a", "b", "c", "lb", "joiner")
    balancer = mesh.lab["lb"].address4
    make(mesh.directory, balancer)
    options = https(external_cert_file=f"{mesh.directory}/{balancer}.pem")
    for name in "abc":
        mesh.add(name, [url(mesh, "a")], options=options)
    mesh.expect_reachable(5, mesh.start(*"abc"))
    joiner = mesh.add("joiner", [through_nginx(mesh, "lb", *"abc")], options=https())
    for _ in range(10):
        mesh.expect_reachable(5, joiner.start(), sources=[joiner])
        joiner.stop()
