"""The role ``address``: tells which overlay addresses this node has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from tunmesh.interfaces.common import Context
from tunmesh.interfaces.tun import Interface, Network


class AddressContext(Context, Protocol):
    """What the factory of an address provider is given.

    Attributes:
        device: Name of the TUN device.
        mesh_networks: The mesh networks of the configuration.
    """

    @property
    def device(self) -> str: ...
    @property
    def mesh_networks(self) -> tuple[Network, ...]: ...

    def set_addresses(self, addresses: Iterable[Interface]) -> None:
        """Replace the addresses that this provider contributes."""


class AddressProvider(ABC):
    """Publishes addresses. Entering the context starts it, leaving it stops it."""

    #: Whether the core should configure these addresses on the device.
    #: False for a provider that found them there.
    configures_device: bool = True

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Start; must have called `set_addresses` once when it returns.

        Raises:
            AddressError: One line that says what failed and how to mend it.
        """

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
