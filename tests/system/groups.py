"""Programs that listen and talk to multicast groups, on the hosts of a laboratory."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh, Node
from tunmesh_multicast_igmp.tools.sockets import Membership

PORT = 5000
DEVICE = "tun1"
IGMP: dict[str, Any] = {"plugins": {"enabled": ["tun_linux", "udp", "igmp"]}}


class Listener:
    """A program that has joined a group on the device.

    Attributes:
        copies: How often each datagram came, by its text.
        sources: Where datagrams came from.
    """

    def __init__(self, node: Node, group: str, *, sources: Sequence[str] = ()) -> None:
        self.copies: Counter[str] = Counter()
        self.sources: set[str] = set()
        self.group = group
        only = [ip_address(source) for source in sources]
        self._membership = node.host.inside(
            lambda: Membership(ip_address(group), PORT, DEVICE, only)
        )
        self.socket = self._membership.socket
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def block(self, source: str) -> None:
        """Want no more of a source (EXCLUDE mode)."""
        self._membership.block(ip_address(source))

    def close(self) -> None:
        """Leave the group."""
        self.socket.close()

    def read(self) -> Counter[str]:
        """Take what has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self.socket.recvfrom(65_536)
                self.copies[data.decode(errors="replace")] += 1
                self.sources.add(address[0])
        return self.copies

    def got(self, text: str) -> bool:
        """Whether a datagram has come."""
        return self.read()[text] > 0


class Talker:
    """A program that sends to groups through the device's routes, or by its name for IPv6."""

    def __init__(self, node: Node, *, ttl: int = 1) -> None:
        def index() -> int:
            return socket.if_nametoindex(DEVICE)

        self.four = node.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.four.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        self.six = node.host.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        number = node.host.inside(index)
        self.six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.four.close()
        self.six.close()

    def say(self, group: str, text: str) -> None:
        """Send one datagram."""
        (self.six if ":" in group else self.four).sendto(text.encode(), (group, PORT))

    def say_until(self, group: str, listener: Listener, within: float, what: str) -> float:
        """Send every 20 ms until one arrives; return the seconds that took."""
        began = time.monotonic()
        number = 0
        while True:
            text = f"{what} {number}"
            number += 1
            with contextlib.suppress(OSError):  # the device has no routes yet
                self.say(group, text)
            with contextlib.suppress(TimeoutError):
                select.select([listener.socket], [], [], 0.02)
            listener.read()
            passed = time.monotonic() - began
            if any(key.startswith(what) for key in listener.copies):
                return passed
            assert passed < within * PATIENCE, f"{what}: nothing arrives within {within} s"


def wait_for_members(node: Node, group: str, *members: str, within: float = 1.0) -> float:
    """Wait until a node knows exactly these members of a group; return how long it took."""
    began = time.monotonic()
    eventually(
        lambda: group_of(node, group).get("members", []) == sorted(members),
        within * PATIENCE,
        f"{node.name} knows that {members} are in {group}",
    )
    return time.monotonic() - began


def group_of(node: Node, group: str) -> dict[str, Any]:
    """A group in a node's status; empty if it is unknown there."""
    status = node.status() or {"groups": []}
    found = [entry for entry in status["groups"] if entry["group"] == group]
    return found[0] if found else {}


def queried(node: Node, version: int) -> None:
    """Send the host a general query of an old version, as from a foreign router."""
    message = struct.pack("!BBHI", 0x11, 0 if version == 1 else 10, 0, 0)
    total = 0xFFFF - (sum(struct.unpack("!4H", message)) % 0xFFFF)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    with node.host.socket(socket.AF_INET, socket.SOCK_RAW, 2) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        raw.sendto(message, ("224.0.0.1", 0))


def meshed(mesh: Mesh, *names: str) -> None:
    """Start the nodes, and wait until they reach each other."""
    mesh.expect_reachable(15, mesh.start(*names))
    mesh.expect_peers(5)
