"""The plugin ``ifaddr``: the addresses that are really on the device, whoever put them there.

The kernel gives every device a link-local IPv6 address; an administrator, an ``up`` command or
another program may give it more. They are told to the mesh as they come and go.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import TYPE_CHECKING, Self

from tunmesh.errors import AddressError
from tunmesh.plugin import AddressProvider, AddressRegistration, hookimpl
from tunmesh_tun_linux import rtnetlink

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from tunmesh.interfaces.common import Watch
    from tunmesh.interfaces.tun import Interface
    from tunmesh.plugin import AddressContext

log = logging.getLogger(__name__)

_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


@hookimpl
def tunmesh_address_providers() -> Iterable[AddressRegistration]:
    """Offer the addresses of the device."""
    return [
        AddressRegistration(
            summary="the addresses that are on the device, IPv6 link-local included",
            factory=InterfaceAddresses,
        )
    ]


class InterfaceAddresses(AddressProvider):
    """Publishes the addresses of the device that lie inside the mesh, and link-local ones."""

    configures_device = False

    def __init__(self, context: AddressContext) -> None:
        self._context = context
        self._networks = (*context.mesh_networks, _LINK_LOCAL)
        self._index = 0
        self._socket: socket.socket | None = None
        self._watch: Watch | None = None
        self._published: tuple[Interface, ...] | None = None
        self._outside: frozenset[Interface] = frozenset()

    async def __aenter__(self) -> Self:
        try:
            self._index = socket.if_nametoindex(self._context.device)
        except OSError:
            # Of another backend, which needs no interface: that has no addresses to be found.
            log.info("no interface of this host device=%s", self._context.device)
            self._context.set_addresses(())
            return self
        try:
            self._socket = rtnetlink.open_watch(rtnetlink.ADDRESS_GROUPS)
            self._publish()
        except OSError as exc:
            self._close()
            raise AddressError(
                f"cannot watch the addresses of {self._context.device}: {exc.strerror or exc}"
            ) from exc
        self._watch = self._context.reactor.watch(self._socket.fileno(), self._readable)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._socket is not None:
            self._socket.close()

    def _readable(self) -> None:
        """Something changed; what, a fresh dump tells best."""
        assert self._socket is not None
        if rtnetlink.Event.ADDRESSES_CHANGED in rtnetlink.read_events(self._socket, self._index):
            try:
                self._publish()
            except OSError as exc:
                # The next change asks again.
                log.warning("addresses unknown device=%s error=%s", self._context.device, exc)

    def _publish(self) -> None:
        found = rtnetlink.addresses(self._index)
        inside = tuple(item for item in found if any(item.ip in net for net in self._networks))
        outside = frozenset(found) - frozenset(inside)
        for address in outside - self._outside:
            log.warning("address ignored address=%s reason=%s", address, "outside mesh.networks")
        self._outside = outside
        if inside != self._published:
            self._published = inside
            self._context.set_addresses(inside)
