"""What a host is told of packets that nobody takes, and that none vanishes for its size."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import Host, LabError, eventually
from tests.system.node import PATIENCE

_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}


def sending_error(host: Host, address: str) -> int | None:
    """The error that a program gets that sends to an address, None if none comes in a second."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(*_RECVERR[family], 1)
        sock.settimeout(1)
        sock.connect((address, 9))
        sock.send(b"x")
        try:
            sock.recv(1)
        except TimeoutError:
            return None
        except OSError as error:
            return error.errno
    raise AssertionError("an answer from nobody")


def passes(host: Host, address: str) -> bool:
    """Whether a large packet comes back."""
    try:
        host.run("ping", "-c", 1, "-W", 1, "-s", 1372, address)
    except LabError:
        return False
    return True


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_a_program_is_told_at_once(meshes: MeshFactory, rp_filter: int) -> None:
    mesh = meshes("a", "b")
    for interface in ("all", "default"):
        mesh.lab["a"].sysctl(f"net/ipv4/conf/{interface}/rp_filter", str(rp_filter))
    urls = [mesh.lab["a"].url()]
    routes = ["192.0.2.0/24", "2001:db8::/32"]
    mesh.add("a", urls, options={"plugins": {"tun_linux": {"routes": routes}}})
    mesh.add("b", urls)
    mesh.start()
    eventually(lambda: "b" in mesh["a"].peers(), 10, "they have met")
    for address, name in (
        ("10.42.1.99", "EHOSTUNREACH"),
        ("fd42:0:0:1::99", "EHOSTUNREACH"),
        ("192.0.2.1", "ENETUNREACH"),
        ("2001:db8::1", "ENETUNREACH"),
    ):
        found = sending_error(mesh.lab["a"], address)
        assert found is not None, address
        assert found == getattr(errno, name), address
    drops = mesh["a"].drops()
    assert (drops["no_route"], drops["outside_network"]) == (2, 2)
    assert not drops["tun_error"]


def test_packets_of_any_size_arrive_over_a_narrow_underlay(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b", mtu=1280)
    urls = [mesh.lab["a"].url()]
    for name in "ab":
        mesh.add(name, urls, options={"plugins": {"tun_linux": {"mtu": 9000}}})
    mesh.expect_reachable(10, mesh.start())
    # Which datagrams pass is found out while the first ones are refused.
    eventually(
        lambda: passes(mesh.lab["a"], mesh["b"].overlay4), 10 * PATIENCE, "large packets pass"
    )
    for address in mesh["b"].overlay:
        for size in (1000, 1372, 2000, 8900, 30_000, 65_000):
            output = mesh.lab["a"].run("ping", "-c", 3, "-i", 0.2, "-W", 2, "-s", size, address)
            assert " 0% packet loss" in output, output
