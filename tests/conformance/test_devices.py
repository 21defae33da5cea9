"""The TUN backends that are shipped, a real one and the one in memory, under the kit."""

from __future__ import annotations

import pytest

from tests.conformance import memory_plugin
from tests.tun_linux.conftest import fresh_netns
from tunmesh.plugin import Tun
from tunmesh.testing import MemoryTun
from tunmesh.testing.conformance import TunConformance

__all__ = ["fresh_netns"]


@pytest.mark.system
@pytest.mark.usefixtures("fresh_netns")
class TestLinux(TunConformance):
    plugin = "tun_linux"

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, bool]]:
        """Not trio: its worker threads outlive a test, and stay in the namespace of that test."""
        return "asyncio", {"use_uvloop": True}


class TestMemory(TunConformance):
    plugin = memory_plugin

    async def host_sends(self, tun: Tun) -> None:
        assert isinstance(tun, MemoryTun)
        for _ in range(4):
            tun.inject(bytes(10) + b"\x45" + bytes(30))
