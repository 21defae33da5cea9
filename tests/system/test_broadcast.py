"""Broadcasts, as the receiving hosts' sockets see them."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh

PORT = 5353
LIMITED, LOCAL, WHOLE = "255.255.255.255", "10.42.1.255", "10.42.255.255"
#: "c" is in another local subnet than the others.
ADDRESSES = {"a": "10.42.1.1/24", "b": "10.42.1.2/24", "c": "10.42.2.1/24", "d": "10.42.1.4/24"}


def make(
    meshes: MeshFactory,
    rp_filter: int = 0,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Mesh:
    mesh = meshes(*ADDRESSES)
    for name, address in ADDRESSES.items():
        for interface in ("all", "default"):
            mesh.lab[name].sysctl(f"net/ipv4/conf/{interface}/rp_filter", str(rp_filter))
        mesh.add(
            name,
            [mesh.lab["a"].url()],
            options={
                "node": {"addresses": [address]},
                "routing": dict((options or {}).get(name, {})),
            },
        )
    mesh.start()
    for name in ADDRESSES:
        eventually(lambda name=name: len(mesh[name].peers()) == 3, 10, f"{name} has its peers")  # type: ignore[misc]
    return mesh


class Listeners:
    """A socket on each host, bound to one port."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.sockets = {
            name: mesh.lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM) for name in ADDRESSES
        }
        for name, listener in self.sockets.items():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            listener.setblocking(False)
            listener.bind(("", PORT))
            assert name in mesh.nodes

    def close(self) -> None:
        for listener in self.sockets.values():
            listener.close()

    def send(self, name: str, destination: str, payload: bytes) -> None:
        self.sockets[name].sendto(payload, (destination, PORT))

    def received(self) -> dict[str, list[tuple[bytes, str]]]:
        """What came to each host within a while, with its sources."""
        time.sleep(0.3 * PATIENCE)
        found: dict[str, list[tuple[bytes, str]]] = {name: [] for name in self.sockets}
        for name, listener in self.sockets.items():
            while True:
                try:
                    payload, (host, _) = listener.recvfrom(2048)
                except BlockingIOError:
                    break
                found[name].append((payload, host))
        return found


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_each_kind_reaches_the_right_nodes_once(meshes: MeshFactory, rp_filter: int) -> None:
    mesh = make(meshes, rp_filter)
    listeners = Listeners(mesh)
    try:
        for kind, receivers in ((LIMITED, "bd"), (LOCAL, "bd"), (WHOLE, "bcd")):
            for number in range(3):
                listeners.send("a", kind, f"{kind} {number}".encode())
            found = listeners.received()
            expected = [(f"{kind} {number}".encode(), "10.42.1.1") for number in range(3)]
            for name in "bcd":
                wanted = expected if name in receivers else []
                assert sorted(found[name]) == wanted, (kind, name)
            # The sender's kernel gives its own sockets a copy; the mesh adds none.
            assert sorted(found["a"]) in ([], expected)
        listeners.send("c", WHOLE, b"from c")
        found = listeners.received()
        assert [found[name] for name in "abd"] == 3 * [[(b"from c", "10.42.2.1")]]
        for node in mesh:
            assert not node.drops()["misrouted"]
            assert not node.drops()["spoofed_source"]
    finally:
        listeners.close()


def test_where_they_are_switched_off_there_are_none_and_they_are_counted(
    meshes: MeshFactory,
) -> None:
    mesh = make(meshes, options={"a": {"broadcast": False}, "b": {"broadcast": False}})
    listeners = Listeners(mesh)
    try:
        for kind in (LOCAL, WHOLE):
            listeners.send("a", kind, b"x")
        found = listeners.received()
        assert not any(found[name] for name in "bcd")
        assert mesh["a"].drops()["broadcast_disabled"] == 2
        listeners.send("d", WHOLE, b"y")
        listeners.send("d", LIMITED, b"z")
        found = listeners.received()
        assert not found["a"]
        assert not found["b"]
        assert [payload for payload, _ in found["c"]] == [b"y"]
        assert mesh["b"].drops()["broadcast_disabled"] == 2
    finally:
        listeners.close()


def test_a_storm_is_limited(meshes: MeshFactory) -> None:
    mesh = make(meshes, options={"a": {"broadcast_rate": 50}})
    listeners = Listeners(mesh)
    try:
        for number in range(400):
            listeners.send("a", WHOLE, f"{number}".encode())
            if number % 40 == 39:
                time.sleep(0.02)  # the device's queue is not what limits
        found = listeners.received()
        assert 50 <= len(found["b"]) <= 80  # so many at once, and some while they are sent
        limited = mesh["a"].drops()["rate_limited"]
        assert limited == 400 - len(found["b"])
        time.sleep(0.2)
        listeners.send("a", LOCAL, b"afterwards")
        assert (b"afterwards", "10.42.1.1") in listeners.received()["b"]
    finally:
        listeners.close()
