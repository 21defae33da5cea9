"""The role ``tun``: the device that packets of this host come from and go to.

A *frame* is a `virtio_net_hdr` of 10 bytes (little-endian), followed by one IP packet. A device
without offloads reads and writes frames whose header is all zero.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from tunmesh.interfaces.common import Context

Buffer: TypeAlias = bytes | bytearray | memoryview
Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class DeviceConfig:
    """The network configuration that the device should have.

    Attributes:
        addresses: This node's own addresses, each with the prefix of its local subnet.
        networks: The mesh networks, which are routed into the device.
        routes: Further prefixes to route into the device (subnets behind other nodes, own options).
            A default route must leave alone what carries `mark` or talks from an address in
            `underlay`, and more specific routes.
        broadcasts: Broadcast addresses that the host sends to by the device, and receives.
        mark: Of the sockets that carry the mesh itself; 0 if they have none.
        underlay: What `Tun.underlay_addresses` told.
    """

    addresses: tuple[Interface, ...] = ()
    networks: tuple[Network, ...] = ()
    routes: tuple[Network, ...] = ()
    broadcasts: tuple[ipaddress.IPv4Address, ...] = ()
    mark: int = 0
    underlay: tuple[Interface, ...] = ()


class TunContext(Context, Protocol):
    """What the factory of a TUN backend is given.

    Attributes:
        mesh_networks: The mesh networks of the configuration.
        accept_subnets: What other nodes may announce, and so what may have to be routed.
        user: The uid and gid that the process turns into once everything is open; None if it
            keeps its privileges. What needs some afterwards needs a process of its own.
    """

    @property
    def mesh_networks(self) -> tuple[Network, ...]: ...
    @property
    def accept_subnets(self) -> tuple[Network, ...]: ...
    @property
    def user(self) -> tuple[int, int] | None: ...

    def device_lost(self, reason: str) -> None:
        """Tell the node that the device is gone for good: the node ends with an error."""


class Tun(ABC):
    """A TUN device and the host's configuration around it.

    Entering the context opens the device; leaving it removes whatever was set up. The hot methods
    (`read_batch`, `write_batch`) are called from the node's event loop only, and never block.
    """

    #: Name of the device, as the host shows it.
    name: str = ""
    #: Bytes of the largest IP packet that the host sends into the device unsegmented.
    mtu: int = 1400
    #: What the device does for us, of: ``csum``, ``tso4``, ``tso6``, ``uso4``, ``uso6``.
    offloads: frozenset[str] = frozenset()

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Open the device.

        Raises:
            TunError: One line that says what is missing and how to mend it.
        """

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the device and everything that was set up for it."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that turns readable when a frame waits."""

    @abstractmethod
    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        """Read waiting frames into `buffer`, each after `headroom` free bytes.

        The first frame begins at offset `headroom`, the next `headroom` bytes after its end, and
        so on. Reading stops when no frame waits or when a frame ended at or beyond `fill`; the
        buffer has room for one largest frame beyond `fill`.

        Returns:
            The frames' lengths, in order; empty when none waited.

        Raises:
            TunError: The device is gone.
        """

    @abstractmethod
    def write_batch(self, frames: Sequence[Buffer]) -> int:
        """Write frames to the host; one that the host refuses does not stop the others.

        The buffers are valid only until the call returns.

        Returns:
            How many frames were refused.
        """

    @abstractmethod
    async def apply(self, config: DeviceConfig) -> None:
        """Make the host's configuration be `config`, adding and removing only what differs.

        Raises:
            TunError: One line that says what the host refused.
        """

    async def underlay_addresses(self) -> tuple[Interface, ...]:
        """The addresses of this host on other interfaces, with the prefixes of their networks.

        Raises:
            TunError: The host refuses to tell.
        """
        return ()

    def forwards(self, version: int) -> bool:  # noqa: ARG002  # a default
        """Whether the host forwards packets of a version of IP between its interfaces."""
        return True
