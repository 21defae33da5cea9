"""Under which endpoints this host can be reached: found from its interfaces, and watched."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TypeAlias

import anyio

from tunmesh.interfaces.common import Watch
from tunmesh.interfaces.transport import TransportContext
from tunmesh.underlay import netlink
from tunmesh.underlay.netlink import InterfaceAddress

#: What the socket module calls an address: (host, port) or (host, port, flow label, zone).
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

#: Addresses change in bursts: one goes, another comes, duplicate detection ends.
DEBOUNCE = 0.25
_READ_BYTES = 1 << 16
_READS = 16


class Rank(IntEnum):
    """How good an address is to be told to others, best first."""

    ORDINARY = 0
    TEMPORARY = 1
    LINK_LOCAL = 2
    LOOPBACK = 3


def choose_endpoints(
    scheme: str,
    bound: Iterable[SocketAddress],
    addresses: Iterable[InterfaceAddress],
    is_overlay: Callable[[str], bool],
) -> tuple[str, ...]:
    """The endpoints to tell to others, best first.

    A socket bound to the wildcard address is reachable under every address of the host, except
    those of the overlay itself. Link-local IPv6 addresses mean nothing to others; loopback ones
    count only where there is nothing else.
    """
    interfaces = list(addresses)
    ranks: dict[str, Rank] = {}
    for host, port, *_ in bound:
        ip = ipaddress.ip_address(host.partition("%")[0])
        if ip.is_unspecified:
            candidates = [known for known in interfaces if known.address.version == ip.version]
        else:
            candidates = [InterfaceAddress(ip, temporary=False)]
        for candidate in candidates:
            address = candidate.address
            if (address.version == 6 and address.is_link_local) or is_overlay(str(address)):
                continue
            text = f"[{address}]" if address.version == 6 else str(address)
            ranks[f"{scheme}://{text}:{port}"] = _rank(candidate)
    if min(ranks.values(), default=Rank.LOOPBACK) < Rank.LOOPBACK:
        ranks = {endpoint: rank for endpoint, rank in ranks.items() if rank < Rank.LOOPBACK}
    return tuple(sorted(ranks, key=ranks.__getitem__))


def _rank(candidate: InterfaceAddress) -> Rank:
    if candidate.address.is_loopback:
        return Rank.LOOPBACK
    if candidate.address.is_link_local:
        return Rank.LINK_LOCAL
    return Rank.TEMPORARY if candidate.temporary else Rank.ORDINARY


class Discovery:
    """Keeps the local endpoints of some sockets up to date.

    Args:
        context: The transport's.
        scheme: Of the endpoints.
        bound: Where the sockets are bound.
        changed: Called when the endpoints are not what they were.

    Attributes:
        endpoints: The current ones, best first.
    """

    def __init__(
        self,
        context: TransportContext,
        scheme: str,
        bound: Iterable[SocketAddress],
        changed: Callable[[], None],
    ) -> None:
        self._context = context
        self._scheme = scheme
        self._bound = tuple(bound)
        self._changed = changed
        self._socket: socket.socket | None = None
        self._watch: Watch | None = None
        self._pending = False
        self.endpoints: tuple[str, ...] = ()

    def open(self) -> None:
        """Find the endpoints, and watch them from now on.

        Raises:
            TransportError: The kernel refuses to tell.
        """
        self._socket = netlink.open_watch()
        self._watch = self._context.reactor.watch(self._socket.fileno(), self._readable)
        self.endpoints = self._find()

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _find(self) -> tuple[str, ...]:
        addresses = netlink.interface_addresses()
        return choose_endpoints(self._scheme, self._bound, addresses, self._context.is_overlay)

    def _readable(self) -> None:
        """Something changed; what, a fresh dump tells best."""
        assert self._socket is not None
        for _ in range(_READS):
            try:
                self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: notifications were lost, so something changed all the more
                continue
        if not self._pending:
            self._pending = True
            self._context.start_soon(self._refresh)

    async def _refresh(self) -> None:
        await anyio.sleep(DEBOUNCE)
        self._pending = False
        if self._socket is None:  # closed meanwhile
            return
        endpoints = self._find()
        if endpoints != self.endpoints:
            self.endpoints = endpoints
            self._changed()
