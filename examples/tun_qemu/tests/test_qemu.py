"""The Ethernet segment, and the stream from a machine that the test plays."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.packet import checksum, pseudo_header_sum
from tunmesh.plugin import BadPacket, DeviceConfig, Tun, TunError
from tunmesh.testing import FakeTunContext
from tunmesh.testing.conformance import TunConformance
from tunmesh_tun_qemu.device import QemuTun
from tunmesh_tun_qemu.ethernet import OWN_MAC, Ethernet, Heard
from tunmesh_tun_qemu.plugin import Options, tunmesh_tun_backends

MACHINE = bytes.fromhex("525400123456")
OWN4, OWN6, OTHER4, OTHER6 = (
    ip_address(text).packed for text in ("10.42.0.1", "fd42::1", "10.42.0.2", "fd42::2")
)
BROADCAST = IPv4Address("10.42.0.255")
CONFIG = DeviceConfig(
    addresses=(ip_interface("10.42.0.1/24"), ip_interface("fd42::1/64")), broadcasts=(BROADCAST,)
)


def ipv4(destination: bytes, source: bytes = OWN4, size: int = 30) -> bytes:
    head = b"\x45\0" + size.to_bytes(2, "big") + bytes(4) + b"\x40\x11\0\0" + source + destination
    return head.ljust(size, b"x")


def frame(kind: int, body: bytes, sender: bytes = MACHINE) -> bytes:
    return OWN_MAC + sender + kind.to_bytes(2, "big") + body


def arp(target: bytes, address: bytes = OWN4, operation: int = 1) -> bytes:
    head = bytes.fromhex("000108000604") + operation.to_bytes(2, "big")
    return frame(0x0806, head + MACHINE + address + bytes(6) + target)


def solicitation(target: bytes, source: bytes = OWN6) -> bytes:
    body = b"\x87\0\0\0" + bytes(4) + target
    head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff"
    return frame(0x86DD, head + source + target + body)


@pytest.fixture
def ethernet() -> Ethernet:
    made = Ethernet()
    made.configure(CONFIG.addresses, CONFIG.broadcasts)
    return made


def test_packets_are_taken_without_what_pads_them(ethernet: Ethernet) -> None:
    packet = ipv4(OTHER4)
    assert ethernet.decode_untrusted(frame(0x0800, packet.ljust(46, b"\0"))) == Heard(packet)


def test_everybody_but_the_machine_is_us(ethernet: Ethernet) -> None:
    answer = ethernet.decode_untrusted(arp(OTHER4)).answer
    assert answer[:14] == MACHINE + OWN_MAC + b"\x08\x06"
    assert answer[20:] == b"\0\2" + OWN_MAC + OTHER4 + MACHINE + OWN4
    for asked in (arp(OWN4), arp(OWN4, bytes(4)), arp(OTHER4, bytes(4)), arp(OTHER4, OTHER4)):
        assert ethernet.decode_untrusted(asked) == Heard()
    assert ethernet.decode_untrusted(arp(OTHER4, operation=2)) == Heard()


def test_neighbours_are_advertised(ethernet: Ethernet) -> None:
    answer = ethernet.decode_untrusted(solicitation(OTHER6)).answer
    assert answer[:14] == MACHINE + OWN_MAC + b"\x86\xdd"
    packet = answer[14:]
    assert packet[8:40] == OTHER6 + OWN6
    assert packet[40] == 136
    assert packet[48:64] == OTHER6
    assert packet[64:] == b"\2\1" + OWN_MAC
    assert checksum(packet[40:], pseudo_header_sum(packet, 58, len(packet) - 40)) in {0, 0xFFFF}
    assert ethernet.decode_untrusted(solicitation(OWN6)) == Heard()
    assert ethernet.decode_untrusted(solicitation(OTHER6, bytes(16))) == Heard()


@pytest.mark.parametrize(
    ("destination", "receiver"),
    [
        ("10.42.0.1", MACHINE.hex()),
        ("10.42.0.255", "ff" * 6),
        ("239.129.2.3", "01005e010203"),
        ("fd42::1", MACHINE.hex()),
        ("ff02::1:ff00:7", "3333ff000007"),
    ],
)
def test_packets_reach_the_machine(ethernet: Ethernet, destination: str, receiver: str) -> None:
    ethernet.decode_untrusted(arp(OTHER4))
    packed = ip_address(destination).packed
    packet = ipv4(packed) if len(packed) == 4 else b"\x60" + bytes(7) + OTHER6 + packed
    assert ethernet.encode(packet)[:12].hex() == receiver + OWN_MAC.hex()
    with pytest.raises(BadPacket):
        ethernet.encode(b"\x45")


@given(st.binary(max_size=100), st.sampled_from([0x0800, 0x0806, 0x86DD, 0x88CC]))
def test_any_bytes_mean_something_or_are_a_bad_packet(body: bytes, kind: int) -> None:
    for data in (body, frame(kind, body)):
        try:
            heard = Ethernet().decode_untrusted(data)
        except BadPacket:
            continue
        assert len(heard.packet) <= len(body)


class Machine:
    """What QEMU does."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.socket.settimeout(5)

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(len(each).to_bytes(4, "big") + each for each in frames))

    def receive(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part
            data += part
        return data


class TestQemu(TunConformance):
    plugin = "qemu"

    def settings(self, folder: Path) -> Mapping[str, Any]:
        self._path = folder / "qemu.sock"
        return {"socket": str(self._path)}

    async def host_sends(self, tun: Tun) -> None:
        machine = Machine(self._path)
        machine.send(*[frame(0x0800, ipv4(bytes((10, 77, 0, 2)), bytes((10, 77, 0, 1))))] * 4)
        machine.socket.close()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[QemuTun, FakeTunContext]]:
    context = FakeTunContext(Options(socket=str(path)), name="qemu")
    async with QemuTun(context) as device:
        await device.apply(CONFIG)
        yield device, context
    assert not context.reactor.watched
    with pytest.raises(FileNotFoundError):
        os.stat(path)  # noqa: PTH116  # of Path, ruff would have an asynchronous one


def read(device: QemuTun, context: FakeTunContext) -> list[bytes]:
    context.reactor.poll()
    buffer = memoryview(bytearray(200_000))
    found, at = [], 0
    for length in device.read_batch(buffer, 4, 20_000):
        found.append(bytes(buffer[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


@pytest.mark.anyio
async def test_a_machine_comes_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "qemu.sock"
    async with opened(path) as (device, context):
        assert device.write_batch([bytes(10) + ipv4(OWN4, OTHER4)]) == 0  # lost: nobody is there
        for _ in range(2):
            machine = Machine(path)
            context.reactor.poll()
            machine.send(arp(OTHER4), frame(0x0800, ipv4(OTHER4)), b"x", frame(0x0800, b""))
            assert read(device, context) == [bytes(10) + ipv4(OTHER4)]
            assert machine.receive()[12:14] == b"\x08\x06"
            assert device.write_batch([bytes(10) + ipv4(OWN4, OTHER4)]) == 0
            assert machine.receive() == MACHINE + OWN_MAC + b"\x08\0" + ipv4(OWN4, OTHER4)
            machine.socket.close()
            context.reactor.poll()


@pytest.mark.anyio
async def test_a_node_that_does_not_read_makes_the_machine_wait(tmp_path: Path) -> None:
    async with opened(tmp_path / "qemu.sock") as (device, context):
        machine = Machine(tmp_path / "qemu.sock")
        context.reactor.poll()
        one = frame(0x0800, ipv4(OTHER4, size=1400))
        machine.socket.settimeout(0.05)
        with contextlib.suppress(TimeoutError):  # the stream is full
            for _ in range(10_000):
                machine.send(one)
                context.reactor.poll()
        waiting = 0
        while found := read(device, context):
            waiting += len(found)
        assert 256 <= waiting < 2000
        machine.socket.close()


@pytest.mark.anyio
async def test_a_machine_that_does_not_read_has_frames_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "qemu.sock") as (device, context):
        machine = Machine(tmp_path / "qemu.sock")
        context.reactor.poll()
        each = bytes(10) + ipv4(OWN4, OTHER4, 1400)
        count = sent = 0
        while sent == count:
            count += 1
            sent += 1 - device.write_batch([each])
        for _ in range(sent):
            assert machine.receive()[14:] == each[10:]
            context.reactor.poll()  # more becomes writable
        assert device.write_batch([each]) == 0
        machine.socket.close()


@pytest.mark.anyio
async def test_a_second_machine_and_nonsense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qemu.sock"
    async with opened(path) as (_, context):
        machine = Machine(path)
        context.reactor.poll()
        second = Machine(path)
        context.reactor.poll()
        assert second.socket.recv(1) == b""
        machine.socket.sendall(b"\xff" * 8)
        context.reactor.poll()
        assert machine.socket.recv(1) == b""
        for each in (machine, second):
            each.socket.close()


@pytest.mark.anyio
async def test_a_socket_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    async with opened(tmp_path / "qemu.sock"):
        (tmp_path / "file").write_text("precious")
        for name, why in (("none/x", "No such"), ("qemu.sock", "another"), ("file", "no socket")):
            context = FakeTunContext(Options(socket=str(tmp_path / name)), name="qemu")
            with pytest.raises(TunError, match=rf"{why}.* \(plugins.qemu.socket\)"):
                await QemuTun(context).__aenter__()
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "qemu.sock"))
    left.close()
    async with opened(tmp_path / "qemu.sock"):
        pass


def test_the_registration() -> None:
    (registration,) = tunmesh_tun_backends()
    assert isinstance(registration.factory(FakeTunContext(Options())), QemuTun)
