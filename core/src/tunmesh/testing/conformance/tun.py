"""The tests that every TUN backend has to pass."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from tunmesh.interfaces.tun import DeviceConfig, Tun
from tunmesh.loader.validation import Role
from tunmesh.testing.conformance.life import LifeTests
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import Live, Stage, until
from tunmesh.testing.context import FakeTunContext

_HEADROOM = 16
_FILL = 60_000
#: Bytes of a ``virtio_net_hdr``, and of the largest frame.
_HEADER = 10
_LARGEST = _HEADER + 65_535
_OFFLOADS = {"csum", "tso4", "tso6", "uso4", "uso6"}
_NETWORKS = ("10.77.0.0/16", "fd77::/48")
_ADDRESS = ipaddress.ip_interface("10.77.0.1/24")
#: A UDP datagram from 10.77.0.9 to 10.77.0.1, without checksums of its own.
_PACKET = bytes.fromhex("4500001d00004000401126060a4d00090a4d0001") + bytes.fromhex(
    "00090009000900002a"
)


class LiveTunContext(Live, FakeTunContext):
    """A TUN backend's context on a stage."""


class TunConformance(LifeTests):
    """Tests of a TUN backend: give `plugin`, `settings` if it needs any, and `host_sends`."""

    role: ClassVar[Role] = "tun"

    def settings(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002  # a default
        """The plugin's table of the configuration; `folder` is for files that it needs."""
        return {}

    async def host_sends(self, tun: Tun) -> None:  # noqa: ARG002  # a default
        """Have the host send packets to 10.77.0.2, into the device, which has 10.77.0.1/24.

        By default the kernel is asked, which suits backends with an interface of the host.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(4):
                sock.sendto(b"to the mesh", ("10.77.0.2", 9))

    def make(self, stage: Stage, folder: Path) -> Tun:
        """A device that is not open yet."""
        options = self.options(self.settings(folder))
        context = LiveTunContext(options, stage=stage, name=self.name, networks=_NETWORKS)
        made: Tun = self.registration().factory(context)
        return made

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Tun]:
        """A device with an address."""
        async with self.stage() as stage, self.make(stage, folder) as tun:
            await tun.apply(DeviceConfig((_ADDRESS,), (ipaddress.ip_network(_NETWORKS[0]),)))
            yield tun

    async def test_attributes_are_as_declared(self, folder: Path) -> None:
        """The device has a name, an MTU that IPv6 can live with, and known offloads."""
        async with self.opened(folder) as tun:
            assert isinstance(tun, Tun)
            assert tun.name
            assert tun.name.isprintable()
            assert 1280 <= tun.mtu <= 65_535
            assert tun.offloads <= _OFFLOADS

    @covers("Tun.fileno", "Tun.read_batch")
    async def test_frames_lie_where_they_should(self, folder: Path) -> None:
        """The descriptor turns readable; each frame has its headroom, a header and a packet."""
        async with self.opened(folder) as tun:
            await self.host_sends(tun)
            buffer = memoryview(bytearray(_FILL + _HEADROOM + _LARGEST))
            await self._readable(tun)
            lengths = tun.read_batch(buffer, _HEADROOM, _FILL)
            assert lengths, "readable, but nothing to read"
            at = 0
            for length in lengths:
                at += _HEADROOM
                frame = buffer[at : at + length]
                assert _HEADER + 20 <= length <= _LARGEST
                assert frame[_HEADER] >> 4 in (4, 6), "no IP packet behind the header"
                at += length
            while tun.read_batch(buffer, _HEADROOM, _FILL):
                pass  # the last call returned an empty list instead of waiting

    @covers("Tun.read_batch")
    async def test_reading_stops_at_the_fill(self, folder: Path) -> None:
        """What does not fit is read by the next call."""
        async with self.opened(folder) as tun:
            await self.host_sends(tun)
            buffer = memoryview(bytearray(_HEADROOM + 1 + _LARGEST))
            await self._readable(tun)
            assert len(tun.read_batch(buffer, _HEADROOM, 1)) == 1

    async def _readable(self, tun: Tun) -> None:
        def ready() -> bool:
            return bool(select.select([tun.fileno()], [], [], 0)[0])

        await until(ready, "a frame from the host", self.patience)

    @covers("Tun.write_batch")
    async def test_frames_are_written_and_refused(self, folder: Path) -> None:
        """One that is refused is counted and stops no other; buffers are not kept."""
        async with self.opened(folder) as tun:
            assert tun.write_batch([]) == 0
            good = [bytearray(bytes(_HEADER) + _PACKET) for _ in range(3)]
            assert tun.write_batch([good[0], memoryview(good[1])[:], bytes(good[2])]) == 0
            for frame in good[::2]:
                frame.clear()  # raises BufferError if something still looks into it
            garbage = [b"\xff" * (_HEADER + size) for size in (1, 20, 1400)]
            assert 0 <= tun.write_batch([*garbage, bytes(_HEADER) + _PACKET]) <= len(garbage)

    @covers("Tun.apply")
    async def test_a_configuration_may_come_again_and_go(self, folder: Path) -> None:
        """Only what differs is done: applying it twice is the same as once."""
        async with self.opened(folder) as tun:
            networks = tuple(map(ipaddress.ip_network, _NETWORKS))
            addresses = (_ADDRESS, ipaddress.ip_interface("fd77::1/64"))
            full = DeviceConfig(addresses, networks, (ipaddress.ip_network("10.99.0.0/16"),))
            for config in (full, full, DeviceConfig(), DeviceConfig(), full):
                await tun.apply(config)

    @covers("Tun.underlay_addresses", "Tun.forwards")
    async def test_what_it_tells_of_the_host_has_its_types(self, folder: Path) -> None:
        """Addresses of other interfaces, and whether the host forwards."""
        async with self.opened(folder) as tun:
            for address in await tun.underlay_addresses():
                assert isinstance(address, (ipaddress.IPv4Interface, ipaddress.IPv6Interface))
                assert address != _ADDRESS, "the device's own address is not the underlay's"
            for version in (4, 6):
                assert isinstance(tun.forwards(version), bool)

    @covers("Tun.fileno", "Tun.__aexit__")
    async def test_the_descriptor_goes_with_the_device(self, folder: Path) -> None:
        """It is one that can be watched, and closed in the end."""
        async with self.opened(folder) as tun:
            fd = tun.fileno()
            os.fstat(fd)
            assert tun.fileno() == fd, "it changed"
            assert not os.get_blocking(fd), "reading would block"
