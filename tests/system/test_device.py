"""The device of a running node, its addresses and routes, whatever others do to them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import first_replies
from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh, Node

IFADDR = {"plugins": {"enabled": ["tun_linux", "ifaddr", "udp"]}}


def make(meshes: MeshFactory, *names: str, options: dict[str, Any] | None = None) -> Mesh:
    """A mesh that has formed, with `ifaddr`."""
    mesh = meshes(*names)
    for name in names:
        mesh.add(name, [mesh.lab[names[0]].url()], options=options or IFADDR)
    mesh.start()
    eventually(
        lambda: all(len(node.peers()) == len(names) - 1 for node in mesh), 5 * PATIENCE, "a mesh"
    )
    return mesh


def addresses(node: Node) -> list[str]:
    """The addresses on the device."""
    (device,) = node.host.ip("-j", "address", "show", "dev", "tun1")
    return sorted(f"{item['local']}/{item['prefixlen']}" for item in device["addr_info"])


def link_local(node: Node) -> str:
    """The address that the kernel made."""
    (address,) = [item for item in addresses(node) if item.startswith("fe80::")]
    return address.partition("/")[0]


def routes(node: Node) -> list[str]:
    """The routes into the device."""
    found = [
        item["dst"]
        for version in ("-4", "-6")
        for item in node.host.ip("-j", version, "route", "show", "dev", "tun1")
    ]
    return sorted(found)


def ping(node: Node, address: str) -> bool:
    """Whether one ping is answered within a second."""
    done = node.host.popen("ping", "-n", "-c", 1, "-W", 1, address)
    done.communicate()
    return done.returncode == 0


def test_link_local_addresses_alone(meshes: MeshFactory) -> None:
    options = {**IFADDR, "node": {"addresses": []}}
    mesh = make(meshes, "a", "b", "c", options=options)
    for source in mesh:
        for target in mesh:
            if source is not target:
                eventually(
                    lambda s=source, t=target: ping(s, f"{link_local(t)}%tun1"),  # type: ignore[misc]
                    2 * PATIENCE,
                    f"{source.name} reaches {target.name}",
                )
    status = mesh["a"].status()
    assert status["node"]["addresses"] == [f"{link_local(mesh['a'])}/64"]


def test_an_address_by_hand_is_announced_at_once(meshes: MeshFactory) -> None:
    mesh = make(meshes, "a", "b", "c")
    a, b, c = mesh
    for address, length in (("10.42.1.77", 24), ("fd42:0:0:1::77", 64)):
        began = time.monotonic()
        a.host.ip("address", "add", f"{address}/{length}", "dev", "tun1")
        replies = first_replies([(b.host, address), (c.host, address)], 5)
        took = max(replies[index] - began for index in (0, 1))
        print(f"{address} reachable after {took:.3f} s")  # noqa: T201  # pytest shows it
        assert took < 1 * PATIENCE
        began = time.monotonic()
        a.host.ip("address", "del", f"{address}/{length}", "dev", "tun1")
        eventually(
            lambda address=address: (
                not any(  # type: ignore[misc]
                    address in peer["addresses"]
                    for node in (b, c)
                    for peer in node.status()["peers"]
                )
            ),
            1 * PATIENCE,
            f"{address} is gone",
        )
        print(f"{address} gone after {time.monotonic() - began:.3f} s")  # noqa: T201
        assert not ping(b, address)


def test_an_address_outside_the_mesh_is_ignored(meshes: MeshFactory) -> None:
    mesh = make(meshes, "a", "b")
    a, b = mesh
    a.host.ip("address", "add", "192.0.2.1/24", "dev", "tun1")
    eventually(lambda: "address=192.0.2.1/24" in a.log_text(), 2, "warning")
    assert "192.0.2.1/24" not in a.status()["node"]["addresses"]
    assert "192.0.2.1" not in str(b.status()["peers"])


@pytest.mark.parametrize(
    "command",
    [
        ("address", "flush", "dev", "tun1"),
        ("-6", "address", "flush", "dev", "tun1"),
        ("route", "flush", "dev", "tun1"),
        ("-6", "route", "flush", "dev", "tun1"),
        ("address", "del", "10.42.1.1/24", "dev", "tun1"),
        ("route", "del", "10.42.0.0/16", "dev", "tun1"),
    ],
)
def test_what_is_flushed_is_put_back(meshes: MeshFactory, command: tuple[str, ...]) -> None:
    mesh = make(meshes, "a", "b")
    a, b = mesh
    eventually(lambda: "255.255.255.255" in routes(a), 5 * PATIENCE, "everything is configured")
    before = (addresses(a), routes(a))
    own = link_local(a)
    assert len(before[0]) == 3
    assert "fe80::/64" in before[1]
    began = time.monotonic()
    a.host.ip(*command)
    state = before

    def healed() -> bool:
        nonlocal state
        state = (addresses(a), routes(a))
        return state == before

    try:
        eventually(healed, 2 * PATIENCE, "healed")
    except AssertionError as error:
        raise AssertionError(f"{error}: {state} is not {before}") from None
    print(f"healed after {time.monotonic() - began:.3f} s")  # noqa: T201  # pytest shows it
    for address in (a.overlay4, a.overlay6, f"{own}%tun1"):
        eventually(lambda address=address: ping(b, address), 2 * PATIENCE, address)  # type: ignore[misc]


def test_healing_is_limited(meshes: MeshFactory) -> None:
    mesh = make(meshes, "a", "b")
    a, _ = mesh
    for _ in range(25):
        a.host.ip("route", "flush", "dev", "tun1")
        time.sleep(0.1)
    eventually(lambda: "10.42.0.0/16" in routes(a), 2 * PATIENCE, "healed")
    assert 2 <= a.log_text().count("device healed") <= 5


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("link", "delete", "tun1"), "removed by somebody else"),
        (("link", "set", "tun1", "down"), "set down by somebody else"),
    ],
)
def test_a_lost_device_ends_the_node(
    meshes: MeshFactory, command: tuple[str, ...], reason: str
) -> None:
    mesh = make(meshes, "a", "b")
    a, b = mesh
    assert a.process is not None
    began = time.monotonic()
    a.host.ip(*command)
    assert a.process.wait(2 * PATIENCE) == 1
    print(f"ended after {time.monotonic() - began:.3f} s")  # noqa: T201  # pytest shows it
    last = a.log_text().splitlines()[-1]
    assert last == f"tunmesh: device lost: device tun1 was {reason}"
    assert "Traceback" not in a.log_text()
    eventually(lambda: not b.peers(), 2, "b knows")
