"""Keeps the host's network configuration in step with the mesh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from tunmesh.errors import TunmeshError
from tunmesh.interfaces import DeviceConfig, Tun
from tunmesh.interfaces.tun import Interface, Network

if TYPE_CHECKING:
    from tunmesh.addressing import OwnAddresses
    from tunmesh.config import Config
    from tunmesh.mesh import Mesh

log = logging.getLogger(__name__)

#: What switches forwarding on, by version of IP.
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


class HostConfig:
    """What the device and the routes of this host should be.

    Args:
        config: The configuration; may be replaced before `changed`.
        tun: The device.
        mesh: What is known of the others.
        addresses: This node's own addresses.
        mark: Of the transports' sockets, where a default route may lead into the tunnel; else 0.
    """

    def __init__(
        self, config: Config, tun: Tun, mesh: Mesh, addresses: OwnAddresses, mark: int
    ) -> None:
        self.config = config
        self._tun = tun
        self._mesh = mesh
        self._addresses = addresses
        self._mark = mark
        self._underlay: tuple[Interface, ...] = ()
        self._refused: set[tuple[str, Network, str]] = set()
        self._wanted = anyio.Event()

    def changed(self) -> None:
        """Something that it depends on is not what it was."""
        self._wanted.set()

    async def open(self) -> None:
        """Configure the host for the first time.

        Raises:
            TunError: The host refused.
        """
        await self._look_around()
        await self._tun.apply(self._device_config())

    def _device_config(self) -> DeviceConfig:
        forwarding = self._mesh.forwarding
        return DeviceConfig(
            addresses=self._addresses.for_device(),
            networks=self.config.mesh.networks,
            routes=(*forwarding.kernel_routes(), *self._mesh.policies.device_routes()),
            broadcasts=forwarding.broadcasts(),
            mark=self._mark,
            underlay=self._underlay if self._mark else (),
        )

    async def _look_around(self) -> None:
        """See what other networks this host is connected to."""
        self._underlay = await self._tun.underlay_addresses()
        networks = dict.fromkeys(address.network for address in self._underlay)
        self._mesh.forwarding.set_underlay(tuple(networks))

    def _report_refused(self) -> None:
        """Tell of announcements that are not accepted, each once as long as it lasts."""
        refused = {
            (node_id, prefix, reason)
            for node_id, prefixes in self._mesh.forwarding.refused.items()
            for prefix, reason in prefixes
        }
        for node_id, prefix, reason in sorted(refused - self._refused, key=str):
            log.warning("announcement refused id=%s prefix=%s reason=%s", node_id, prefix, reason)
        self._refused = refused

    def warnings(self) -> list[str]:
        """What does not work as configured."""
        return [
            f"subnet {subnet.prefix} cannot be reached by others: this host does not forward "
            f"IPv{subnet.prefix.version}; run `sysctl -w {_FORWARDING[subnet.prefix.version]}=1`"
            for subnet in self.config.node.subnets
            if not self._tun.forwards(subnet.prefix.version)
        ]

    async def keep(self, scope: anyio.CancelScope) -> None:
        """Follow changes until the scope is cancelled."""
        with scope:
            await self._keep()

    async def _keep(self) -> None:
        """Keep the host's configuration in step with the mesh."""
        applied: DeviceConfig | None = None
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            try:
                await self._look_around()
            except TunmeshError as error:
                log.warning("addresses of this host unknown error=%s", error)
            wanted = self._device_config()
            self._report_refused()
            if wanted == applied:
                continue
            try:
                await self._tun.apply(wanted)
            except TunmeshError as error:
                log.warning("device configuration failed error=%s", error)
            except Exception:
                # Foreign code: what it fails on is asked for again after the next change.
                log.exception("device configuration failed")
            else:
                applied = wanted
