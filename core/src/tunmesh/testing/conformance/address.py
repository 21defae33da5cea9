"""The tests that every address provider has to pass."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tunmesh.interfaces.address import AddressProvider
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.loader.validation import Role
from tunmesh.testing.conformance.life import LifeTests
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import Live, Stage

_NETWORKS = ("10.42.0.0/16", "fd42::/48")


class LiveAddressContext(Live):
    """An address provider's context on a stage.

    Attributes:
        device: Name of the device.
        mesh_networks: The mesh networks.
        published: What was published, oldest first.
    """

    def __init__(self, options: object, *, stage: Stage, name: str, device: str) -> None:
        super().__init__(options, stage=stage, name=name)
        self.device = device
        self.mesh_networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, _NETWORKS))
        self.published: list[tuple[Interface, ...]] = []

    def set_addresses(self, addresses: Iterable[Interface]) -> None:
        """Remember them."""
        found = tuple(addresses)
        kinds: set[type] = set(map(type, found))
        for kind in kinds - {ipaddress.IPv4Interface, ipaddress.IPv6Interface}:
            self._stage.blame(f"set_addresses got {kind.__name__}, which is no interface address")
        self.published.append(found)


class AddressConformance(LifeTests):
    """Tests of an address provider: give `plugin`, and `settings` if it needs any."""

    role: ClassVar[Role] = "address"
    #: The device whose addresses are meant.
    device: str = "lo"

    def settings(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002  # a default
        """The plugin's table of the configuration; `folder` is for files that it needs."""
        return {}

    def make(self, stage: Stage, folder: Path) -> AddressProvider:
        """A provider that is not open yet."""
        return self._made(stage, folder)[0]

    def _made(self, stage: Stage, folder: Path) -> tuple[AddressProvider, LiveAddressContext]:
        options = self.options(self.settings(folder))
        context = LiveAddressContext(options, stage=stage, name=self.name, device=self.device)
        return self.registration().factory(context), context

    @covers("AddressProvider.__aenter__", "AddressContext.set_addresses")
    async def test_addresses_are_published_by_the_time_it_is_open(self, folder: Path) -> None:
        """Be it none; and never after it was closed."""
        async with self.stage() as stage:
            provider, context = self._made(stage, folder)
            assert isinstance(provider, AddressProvider)
            assert isinstance(provider.configures_device, bool)
            async with provider:
                assert context.published, "set_addresses was not called"
            before = len(context.published)
        assert len(context.published) == before, "addresses were published after it was closed"
