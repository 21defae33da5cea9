# ruff: noqa: T201  # figures, for those who ask pytest to show them
"""Ordinary programs, unchanged, across the mesh."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.system.bulk import flow, transfer
from tests.system.conftest import MeshFactory
from tests.system.icmp import PingStream
from tests.system.lab import Host
from tests.system.node import PATIENCE, Mesh

GIB = 1 << 30
MIB = 1 << 20


def two(meshes: MeshFactory, mtu: int | str = "auto", underlay_mtu: int = 1500) -> Mesh:
    """Two nodes with that inner MTU."""
    mesh = meshes("a", "b", mtu=underlay_mtu)
    for name in "ab":
        options = {"plugins": {"tun_linux": {"mtu": mtu}}}
        mesh.add(name, [mesh.lab["a"].url()], options=options)
    mesh.expect_reachable(3, mesh.start())
    return mesh


@pytest.fixture
def mesh(meshes: MeshFactory) -> Mesh:
    return two(meshes)


def echo_datagrams(source: Host, target: Host, address: str, sizes: list[int]) -> list[int]:
    """Send UDP datagrams, have them sent back; return the sizes that came back unharmed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    returned = []
    with (
        target.socket(family, socket.SOCK_DGRAM) as server,
        source.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((address, 9000))
        server.settimeout(2)
        client.settimeout(2)
        for size in sizes:
            data = os.urandom(size)
            client.sendto(data, (address, 9000))
            try:
                received, sender = server.recvfrom(65536)
                server.sendto(received, sender)
                if client.recv(65536) == data:
                    returned.append(size)
            except TimeoutError:
                continue
    return returned


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_tcp_of_1_gib_arrives_unharmed(mesh: Mesh, family: int) -> None:
    a, b = mesh["a"], mesh["b"]
    outcome = transfer(a.host, b.host, b.overlay[family], GIB)
    print(f"{outcome.bytes * 8 / outcome.seconds / 1e9:.2f} Gbit/s")


def test_tcp_in_both_directions_at_once(mesh: Mesh) -> None:
    a, b = mesh["a"], mesh["b"]
    with flow(a.host, b.host, b.overlay4, size=128 * MIB) as there:
        transfer(b.host, a.host, a.overlay6, 128 * MIB)
    assert there[0].sha256 == there[1].sha256


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_large_datagrams_in_inner_fragments(mesh: Mesh, family: int) -> None:
    a, b = mesh["a"], mesh["b"]
    sizes = [1, 1372, 1373, 20_000, 65_507]
    assert echo_datagrams(a.host, b.host, b.overlay[family], sizes) == sizes


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_large_pings(mesh: Mesh, program: Callable[[str], str], family: int) -> None:
    a, b = mesh["a"], mesh["b"]
    command = (program("ping"), "-n", "-c", 10, "-i", 0.05, "-W", 2, "-s", 20_000)
    assert ", 0% packet loss" in a.host.run(*command, b.overlay[family])


class Echo:
    """A TCP server that sends back what it gets, and a client that measures it."""

    def __init__(self, client: Host, server: Host, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = server.socket(family, socket.SOCK_STREAM)
        self._listener.bind((address, 9001))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self._client = client.socket(family, socket.SOCK_STREAM)
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.settimeout(10)
        self._client.connect((address, 9001))

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(1024):
                connection.sendall(data)

    def round_trip(self) -> float:
        """The seconds until one small message is back."""
        began = time.monotonic()
        self._client.sendall(bytes(36))
        got = 0
        while got < 36:
            got += len(self._client.recv(1024))
        return time.monotonic() - began

    def close(self) -> None:
        self._client.close()
        self._thread.join(5)
        self._listener.close()


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_small_packets_stay_fast_during_a_bulk_flow(mesh: Mesh, family: int) -> None:
    a, b = mesh["a"], mesh["b"]
    echo = Echo(a.host, b.host, b.overlay[family])
    try:
        trips = []
        with (
            flow(a.host, b.host, b.overlay[family], seconds=6) as outcomes,
            PingStream(a.host, b.overlay[family]) as pings,
        ):
            time.sleep(0.5)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                trips.append(echo.round_trip())
                time.sleep(0.02)
    finally:
        echo.close()
    assert outcomes[0].sha256 == outcomes[1].sha256
    for kind, times in (("TCP", sorted(trips)), ("ping", pings.round_trips())):
        middle, high = times[len(times) // 2], times[len(times) * 95 // 100]
        print(f"{kind}: median {middle * 1e3:.2f} ms, 95 %: {high * 1e3:.2f} ms, n {len(times)}")
        assert len(times) > 50
        assert high < 0.020 * PATIENCE
    assert pings.lost() <= len(pings.echoes) // 100


@pytest.mark.parametrize("mtu", [1280, 9000])
def test_inner_mtu(meshes: MeshFactory, program: Callable[[str], str], mtu: int) -> None:
    mesh = two(meshes, mtu)
    a, b = mesh["a"], mesh["b"]
    assert a.host.ip("-j", "link", "show", "dev", "tun1")[0]["mtu"] == mtu
    assert a.status()["device"]["mtu"] == mtu
    for family, headers in enumerate((28, 48)):
        address = b.overlay[family]
        for size in (mtu - headers, 20_000):
            command = (program("ping"), "-n", "-c", 3, "-i", 0.05, "-W", 2, "-s", size)
            assert ", 0% packet loss" in a.host.run(*command, address)
        transfer(a.host, b.host, address, 64 * MIB)
        sizes = [mtu - headers, mtu - headers + 1, 65_507]
        assert echo_datagrams(a.host, b.host, address, sizes) == sizes


def test_an_underlay_with_a_smaller_mtu(meshes: MeshFactory) -> None:
    mesh = two(meshes, 1400, underlay_mtu=1300)
    a, b = mesh["a"], mesh["b"]
    for address in b.overlay:
        transfer(a.host, b.host, address, 16 * MIB)
        assert echo_datagrams(a.host, b.host, address, [1300, 65_507]) == [1300, 65_507]
