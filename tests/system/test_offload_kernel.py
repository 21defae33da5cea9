"""The kernel as judge of the offloads: its frames through our code into sockets, and back.

Two TUN devices in namespaces of their own, joined by this process, which does to the frames on
their way what the data path may do to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import multiprocessing
import os
import select
import socket
import struct
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import pytest
from pyroute2 import IPRoute

from tunmesh.offload import adapt, check_frame_untrusted, coalesce_udp, split

Transform: TypeAlias = Callable[[list[bytes]], Iterable[bytes]]

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUNSETVNETHDRSZ, TUNSETVNETLE = 0x400454D8, 0x400454DC
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
OFFLOADS = 0x01 | 0x02 | 0x04 | 0x20 | 0x40  # csum, tso4, tso6, uso4, uso6
IFA_F_NODAD = 2
UDP_SEGMENT = 103
MTU = 1400
SEGMENT = 1000

ADDRESSES = {
    socket.AF_INET: ("10.99.0.1", "10.99.0.2"),
    socket.AF_INET6: ("fd99::1", "fd99::2"),
}
FAMILIES = pytest.mark.parametrize("family", list(ADDRESSES), ids=["ipv4", "ipv6"])


class Host:
    """A network namespace with a TUN device; the process stays in it until the next is made."""

    def __init__(self, number: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        user = 0 if number or os.geteuid() == 0 else CLONE_NEWUSER
        if libc.unshare(CLONE_NEWNET | user):
            raise OSError(ctypes.get_errno(), "unshare")
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", b"rt0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(self.tun, TUNSETIFF, request)
        fcntl.ioctl(self.tun, TUNSETVNETHDRSZ, struct.pack("i", 10))
        fcntl.ioctl(self.tun, TUNSETVNETLE, struct.pack("i", 1))
        fcntl.ioctl(self.tun, TUNSETOFFLOAD, OFFLOADS)
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="rt0")[0]
            netlink.link("set", index=index, mtu=MTU, state="up")
            for addresses, length in zip(ADDRESSES.values(), (24, 64), strict=True):
                netlink.addr(
                    "add",
                    index=index,
                    address=addresses[number],
                    prefixlen=length,
                    flags=IFA_F_NODAD,
                )
        self.refused = 0

    def read(self) -> list[bytes]:
        """All frames that wait."""
        frames = []
        while True:
            try:
                frames.append(os.read(self.tun, 70_000))
            except BlockingIOError:
                return frames

    def write(self, frame: bytes) -> None:
        """Give a frame to the kernel."""
        try:
            os.write(self.tun, frame)
        except OSError:
            self.refused += 1


@dataclass
class Wire:
    """Two hosts; what goes from the first to the second is transformed."""

    transform: Transform
    a: Host
    b: Host
    superpackets: int = 0
    seen: list[bytes] = field(default_factory=list)

    def pump(self, wanted: socket.socket) -> bool:
        """Carry frames until the socket is readable; False if there was nothing to do before."""
        waiting = [self.a.tun, self.b.tun, wanted.fileno()]
        while True:
            ready, _, _ = select.select(waiting, [], [], 0.5)
            for frame in self.b.read():
                check_frame_untrusted(frame)
                self.a.write(frame)
            frames = self.a.read()
            for frame in frames:
                check_frame_untrusted(frame)
                self.superpackets += frame[1] != 0
            for frame in self.transform(frames):
                check_frame_untrusted(frame)
                self.seen.append(frame)
                self.b.write(frame)
            if not ready or wanted.fileno() in ready:
                return bool(ready)


def isolated(scenario: Callable[..., None], *args: object) -> None:
    """Run a scenario in a process of its own, which may leave its namespaces."""

    def run(report: Connection) -> None:
        try:
            scenario(*args)
        except BaseException:  # noqa: BLE001  # whatever it is, the test shows it
            report.send(traceback.format_exc())
        else:
            report.send("")

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(sender,))
    process.start()
    sender.close()
    try:
        error = receiver.recv()
    finally:
        process.kill()
        process.join()
    assert not error, error


def checksum_errors() -> int:
    """Packets with a wrong checksum or header, in the namespace of this process."""
    total = 0
    lines = Path("/proc/self/net/snmp").read_text(encoding="ascii").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        table = dict(zip(names.split(), values.split(), strict=True))
        total += sum(int(table.get(name, 0)) for name in ("InCsumErrors", "InHdrErrors"))
    for line in Path("/proc/self/net/snmp6").read_text(encoding="ascii").splitlines():
        name, value = line.split()
        if name.endswith(("InCsumErrors", "Ip6InHdrErrors")):
            total += int(value)
    return total


def pieces(segments: int) -> Transform:
    """Cut superpackets."""
    return lambda frames: [piece for frame in frames for piece in split(frame, segments)]


def adapted(*offloads: str) -> Transform:
    """Make frames for a device with less offloads."""
    return lambda frames: [piece for frame in frames for piece in adapt(frame, frozenset(offloads))]


def coalesced(frames: list[bytes]) -> list[bytes]:
    """Cut superpackets into datagrams, and join these again."""
    joined = []
    for frame in frames:
        plain = split(frame, 1)
        unit = b"".join(b"\x01" + len(item).to_bytes(3, "big") + item for item in plain)
        found = coalesce_udp(unit, 0, len(plain[0]) + 4, len(plain)) if len(plain) > 1 else None
        joined += [found] if found else plain
    return joined


TRANSFORMS = {
    "as it is": list,
    "split into 1": pieces(1),
    "split into 4": pieces(4),
    "no offloads": adapted(),
    "checksums only": adapted("csum"),
}


def tcp_scenario(family: int, transform: Transform) -> None:
    """A stream from the first host to the second, which answers with what it got."""
    a = Host(0)
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setblocking(False)
    b = Host(1)
    wire = Wire(transform, a, b)
    source, destination = ADDRESSES[socket.AddressFamily(family)]
    listener = socket.create_server((destination, 5000), family=family)
    client.bind((source, 0))
    client.connect_ex((destination, 5000))
    while not wire.pump(listener):  # the address takes a moment to come into force
        pass
    server, _ = listener.accept()
    server.setblocking(False)
    data = os.urandom(2_000_000)
    sent, received = 0, bytearray()
    while len(received) < len(data):
        with contextlib.suppress(BlockingIOError):
            sent += client.send(data[sent : sent + 500_000])
        wire.pump(server)
        with contextlib.suppress(BlockingIOError):
            received += server.recv(1_000_000)
    assert bytes(received) == data
    assert wire.superpackets > 5
    assert (a.refused, b.refused, checksum_errors()) == (0, 0, 0)


def udp_scenario(family: int, transform: Transform, joined: bool) -> None:
    """A burst of datagrams from the first host to the second."""
    a = Host(0)
    client = socket.socket(family, socket.SOCK_DGRAM)
    b = Host(1)
    wire = Wire(transform, a, b)
    _, destination = ADDRESSES[socket.AddressFamily(family)]
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setblocking(False)
    server.bind((destination, 5000))
    data = os.urandom(40 * SEGMENT)
    client.sendto(b"warm-up", (destination, 5000))
    while not wire.pump(server):  # the address takes a moment to come into force
        client.sendto(b"warm-up", (destination, 5000))
    assert server.recv(100) == b"warm-up"
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
    client.sendto(data, (destination, 5000))
    received: list[bytes] = []
    while len(received) < 40 and wire.pump(server):
        received.append(server.recv(65_536))
    assert received == [data[at : at + SEGMENT] for at in range(0, len(data), SEGMENT)]
    assert wire.superpackets == 1
    if joined:
        assert [frame[1] for frame in wire.seen if frame[1]] == [5]
    assert (a.refused, b.refused, checksum_errors()) == (0, 0, 0)


@FAMILIES
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_tcp_arrives(family: int, transform: Transform) -> None:
    isolated(tcp_scenario, family, transform)


@FAMILIES
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_udp_arrives(family: int, transform: Transform) -> None:
    isolated(udp_scenario, family, transform, False)


@FAMILIES
def test_a_coalesced_superpacket_arrives_as_its_datagrams(family: int) -> None:
    isolated(udp_scenario, family, coalesced, True)
