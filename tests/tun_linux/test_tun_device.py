"""Frames through a real device, and its life from opening to removal."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from pyroute2 import IPRoute

from tunmesh.errors import TunError
from tunmesh.interfaces import DeviceConfig
from tunmesh.testing import FakeTunContext
from tunmesh_tun_linux.device import LinuxTun
from tunmesh_tun_linux.options import Options

pytestmark = [pytest.mark.anyio, pytest.mark.system]

HEADROOM = 4
FILL = 60_000
VNET = 10  # bytes of a virtio_net_hdr
NEEDS_CSUM = 1
GSO_UDP_L4 = 5
UDP_SEGMENT = 103

CONFIG = DeviceConfig(
    addresses=(ipaddress.ip_interface("10.77.0.1/24"), ipaddress.ip_interface("fd77::1/64")),
    networks=(ipaddress.ip_network("10.77.0.0/16"), ipaddress.ip_network("fd77::/48")),
)


def no_ipv6_noise() -> None:
    """Keep the kernel from sending router solicitations and reports of its own."""
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


@pytest.fixture
async def tun(fresh_netns: None) -> AsyncIterator[LinuxTun]:
    no_ipv6_noise()
    async with LinuxTun(FakeTunContext(Options())) as tun:
        await tun.apply(DeviceConfig(CONFIG.addresses[:1], CONFIG.networks[:1]))
        yield tun


def devices() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def change_link(command: str, settings: dict[str, str]) -> None:
    """What an administrator might do; blocking, so for a worker thread."""
    with IPRoute() as netlink:
        netlink.link(command, index=socket.if_nametoindex("tun1"), **settings)


def frames(tun: LinuxTun, *, fill: int = FILL) -> list[bytes]:
    """What one `read_batch` reads."""
    buffer = memoryview(bytearray(fill + HEADROOM + VNET + 65535))
    found = []
    offset = 0
    for length in tun.read_batch(buffer, HEADROOM, fill):
        offset += HEADROOM
        found.append(bytes(buffer[offset : offset + length]))
        offset += length
    return found


def send(target: str, *payloads: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for payload in payloads:
            sock.sendto(payload, (target, 9))


def udp_packet(source: str, target: str, port: int, payload: bytes) -> bytes:
    """An IPv4 packet without UDP checksum."""
    udp = struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload
    header = bytearray(
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
        + socket.inet_aton(source)
        + socket.inet_aton(target)
    )
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", header, 10, ~total & 0xFFFF)
    return bytes(header) + udp


async def test_reads_frames_with_their_headers(tun: LinuxTun) -> None:
    send("10.77.5.5", b"one", b"three")
    first, second = frames(tun)
    flags, gso_type, _, _, start, offset = struct.unpack_from("<BBHHHH", first)
    assert (flags, gso_type) == (NEEDS_CSUM, 0)
    assert (start, offset) == (20, 6)  # the checksum of UDP, behind 20 bytes of IPv4
    assert first[VNET + 12 : VNET + 20] == bytes([10, 77, 0, 1, 10, 77, 5, 5])
    assert (first[-3:], second[-5:]) == (b"one", b"three")
    assert frames(tun) == []


async def test_frames_that_come_one_by_one_are_read_singly(tun: LinuxTun) -> None:
    assert frames(tun) == []
    send("10.77.5.5", b"one", b"two")
    assert [len(frames(tun)) for _ in range(3)] == [1, 1, 0]


async def test_many_frames_are_looked_for_again(tun: LinuxTun) -> None:
    send("10.77.5.5", *[b"x"] * 40)
    counts: list[int] = []
    while sum(counts) < 40:
        counts.append(len(frames(tun)))
    assert max(counts) > 20


async def test_stops_reading_when_the_buffer_is_full_enough(tun: LinuxTun) -> None:
    send("10.77.5.5", *[bytes(1000)] * 5)
    assert [len(part) for part in (frames(tun, fill=2000), frames(tun), frames(tun))] == [2, 3, 0]


async def test_segments_stay_together(tun: LinuxTun) -> None:
    if "uso4" not in tun.offloads:
        pytest.skip("this kernel has no USO for TUN devices")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sock.sendto(bytes(5500), ("10.77.5.5", 9))
    (frame,) = frames(tun)
    _, gso_type, _, gso_size, _, _ = struct.unpack_from("<BBHHHH", frame)
    assert (gso_type, gso_size) == (GSO_UDP_L4, 1000)
    assert len(frame) == VNET + 28 + 5500


async def test_writes_frames_to_the_host(tun: LinuxTun) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("10.77.0.1", 9))
        sock.settimeout(5)
        frames = [bytes(VNET) + udp_packet("10.77.5.5", "10.77.0.1", 9, b"%d" % i) for i in (1, 2)]
        assert tun.write_batch([frames[0], memoryview(bytearray(frames[1]))]) == 0
        assert [sock.recv(100) for _ in frames] == [b"1", b"2"]


async def test_a_refused_frame_does_not_stop_the_others(tun: LinuxTun) -> None:
    good = bytes(VNET) + udp_packet("10.77.5.5", "10.77.0.1", 9, b"good")
    no_packet = bytes(VNET)
    no_version = bytes(VNET + 40)
    nonsense_gso = b"\x01\x07" + bytes(8) + good[VNET:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("10.77.0.1", 9))
        sock.settimeout(5)
        refused = tun.write_batch([b"short", no_packet, good, no_version, nonsense_gso, good])
        assert refused == 4
        assert [sock.recv(100) for _ in range(2)] == [b"good", b"good"]


async def test_a_device_that_is_down_refuses_frames_but_is_not_lost(tun: LinuxTun) -> None:
    good = bytes(VNET) + udp_packet("10.77.5.5", "10.77.0.1", 9, b"good")
    await run_sync(change_link, "set", {"state": "down"})
    assert tun.write_batch([good, good]) == 2
    assert frames(tun) == []


async def test_a_device_that_somebody_removes_is_lost(fresh_netns: None) -> None:
    context = FakeTunContext(Options())
    good = bytes(VNET) + udp_packet("10.77.5.5", "10.77.0.1", 9, b"good")
    no_ipv6_noise()
    async with LinuxTun(context) as tun:
        await run_sync(change_link, "del", {})
        with anyio.fail_after(5):
            await anyio.wait_readable(tun.fileno())  # wakes up for this, too
        with pytest.raises(TunError, match="device tun1 was removed by somebody else"):
            frames(tun)
        assert tun.write_batch([good, good, good]) == 3
        assert context.lost == ["device tun1 was removed by somebody else"]


async def test_closing_removes_everything(fresh_netns: None) -> None:
    async with LinuxTun(
        FakeTunContext(Options(routes=(ipaddress.ip_network("192.0.2.0/24"),)))
    ) as tun:
        await tun.apply(CONFIG)
        assert devices() == {"lo", "tun1"}
    assert devices() == {"lo"}


async def test_closing_while_being_cancelled(fresh_netns: None) -> None:
    with anyio.CancelScope() as scope:
        async with LinuxTun(FakeTunContext(Options())):
            scope.cancel()
            await anyio.sleep_forever()
    assert devices() == {"lo"}


async def test_a_failing_start_leaves_nothing(fresh_netns: None) -> None:
    with pytest.raises(TunError, match="cannot set up device tun1"):
        async with LinuxTun(FakeTunContext(Options(mtu=70_000))):
            pytest.fail("the kernel took an impossible MTU")
    assert devices() == {"lo"}


async def test_options_take_effect(fresh_netns: None) -> None:
    options = Options(device="mesh0", mtu=9000, txqueuelen=77)
    async with LinuxTun(FakeTunContext(options)) as tun:
        assert (tun.name, tun.mtu) == ("mesh0", 9000)
        assert devices() == {"lo", "mesh0"}
