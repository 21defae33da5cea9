"""The host's configuration around the device, by netlink: link settings, addresses, routes.

Everything here blocks, so the device calls it in worker threads. Nothing is ever removed at the
end: addresses and routes go with the device.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute, NetlinkError

from tunmesh.errors import TunError
from tunmesh_tun_linux.routes import KernelRoute, wanted_routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tunmesh.interfaces import DeviceConfig
    from tunmesh.interfaces.tun import Interface, Network

log = logging.getLogger(__name__)

#: Marks our routes in the kernel's tables: ``ip route show proto 84``.
ROUTE_PROTOCOL = 84

#: Bytes of the largest superpacket. With the headers of its slices it fits one `sendmsg`, which
#: takes 64 segments and 65,507 bytes.
GSO_MAX_SIZE = 63_000

# <linux/rtnetlink.h>, <linux/if_addr.h>
_SCOPE_UNIVERSE = 0
_SCOPE_LINK = 253
_TABLE_MAIN = 254
_TABLE_LOCAL = 255
_RTN_UNICAST = 1
_RTN_BROADCAST = 3
_IFA_F_NODAD = 0x02

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class HostNet:
    """The network configuration of one device. For one thread at a time.

    Args:
        device: Name of the device.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        #: What was added here. Other addresses of the device are somebody else's: they stay.
        self._added: set[Interface] = set()

    def bring_up(self, mtu: int, txqueuelen: int) -> None:
        """Set the link's properties and switch it on.

        Raises:
            TunError: The host refused.
        """
        with self._netlink() as (netlink, index):
            try:
                netlink.link("set", index=index, mtu=mtu, txqlen=txqueuelen, state="up")
            except NetlinkError as exc:
                raise TunError(_refused(f"set up device {self._device}", exc)) from exc
            try:
                # Being below 64 KiB, this is the limit of IPv4 as well.
                netlink.link("set", index=index, gso_max_size=GSO_MAX_SIZE)
            except NetlinkError as exc:
                # Nothing is lost but speed: the largest superpackets take two sends.
                log.info("gso_max_size refused device=%s error=%s", self._device, exc)

    def apply(self, config: DeviceConfig, extra: Iterable[Network] = ()) -> None:
        """Make addresses and routes be what is asked for, changing only what differs.

        What the host refuses does not stop the rest.

        Args:
            config: The configuration.
            extra: Further prefixes to route into the device.

        Raises:
            TunError: The host refused something.
        """
        extra = tuple(extra)
        routes = wanted_routes(config, extra)
        without_ipv6 = ipv6_problem(self._device)
        if without_ipv6:
            if any(item.version == 6 for item in (*config.addresses, *config.networks, *extra)):
                raise TunError(without_ipv6)
            # What other nodes announce must not stop a host without IPv6.
            routes = {route for route in routes if route.prefix.version == 4}
        with self._netlink() as (netlink, index):
            problems = self._apply_addresses(netlink, index, set(config.addresses))
            # Removing an address may have removed routes, so these come second.
            problems += self._apply_routes(netlink, index, routes)
        if problems:
            raise TunError("; ".join(problems))

    def _apply_addresses(self, netlink: IPRoute, index: int, wanted: set[Interface]) -> list[str]:
        problems = []
        for address in (self._added - wanted) & _addresses(netlink, index):
            try:
                netlink.addr("del", index=index, **_address_arguments(address))
            except NetlinkError as exc:
                # An IPv4 address takes the others of its subnet along.
                if exc.code != errno.EADDRNOTAVAIL:
                    problems.append(_refused(f"remove address {address}", exc))
        for address in sorted(wanted - _addresses(netlink, index), key=_sort_key):
            try:
                netlink.addr("add", index=index, **_address_arguments(address))
            except NetlinkError as exc:
                problems.append(_refused(f"add address {address} to {self._device}", exc))
        self._added = wanted
        return problems

    def _apply_routes(self, netlink: IPRoute, index: int, wanted: set[KernelRoute]) -> list[str]:
        problems = []
        present = _routes(netlink, index)
        for route in present - wanted:
            try:
                netlink.route("del", oif=index, **_route_arguments(route))
            except NetlinkError as exc:
                if exc.code != errno.ESRCH:
                    problems.append(_refused(f"remove route {route.prefix}", exc))
        for route in sorted(wanted - present, key=lambda route: _sort_key(route.prefix)):
            try:
                netlink.route("add", oif=index, **_route_arguments(route))
            except NetlinkError as exc:
                problems.append(_refused(f"route {route.prefix} into {self._device}", exc))
        return problems

    @contextmanager
    def _netlink(self) -> Iterator[tuple[IPRoute, int]]:
        """A netlink socket, and the device's index."""
        try:
            index = socket.if_nametoindex(self._device)
        except OSError as exc:
            raise TunError(f"device {self._device} is gone") from exc
        with IPRoute(strict_check=True) as netlink:
            yield netlink, index


def ipv6_problem(device: str) -> str | None:
    """Why the device cannot have IPv6, and how to mend it; None if it can."""
    setting = Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6")
    try:
        disabled = setting.read_text().strip() != "0"
    except FileNotFoundError:
        return (
            "this host has no IPv6: boot without ipv6.disable=1, "
            "or remove the IPv6 addresses and networks from the configuration"
        )
    if disabled:
        return (
            "IPv6 is disabled on this host: run `sysctl net.ipv6.conf.default.disable_ipv6=0`, "
            "or remove the IPv6 addresses and networks from the configuration"
        )
    return None


def _addresses(netlink: IPRoute, index: int) -> set[Interface]:
    """The addresses that the device has."""
    found: set[Interface] = set()
    for message in netlink.get_addr(index=index):
        # IFA_LOCAL is the address itself where IFA_ADDRESS is that of a point-to-point peer.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        found.add(ipaddress.ip_interface(f"{address}/{message['prefixlen']}"))
    return found


def _routes(netlink: IPRoute, index: int) -> set[KernelRoute]:
    """The routes into the device that are ours."""
    found = set()
    for family in _FAMILY.values():
        for message in netlink.get_routes(family=family, oif=index, proto=ROUTE_PROTOCOL):
            if message["proto"] != ROUTE_PROTOCOL or message.get_attr("RTA_OIF") != index:
                continue  # kernels before 4.20 do not filter
            unspecified = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104
            destination = message.get_attr("RTA_DST") or unspecified
            source = message.get_attr("RTA_PREFSRC")
            found.add(
                KernelRoute(
                    prefix=ipaddress.ip_network(f"{destination}/{message['dst_len']}"),
                    source=ipaddress.ip_address(source) if source else None,
                    broadcast=message["type"] == _RTN_BROADCAST,
                )
            )
    return found


def _address_arguments(address: Interface) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": _FAMILY[address.version],
        "address": str(address.ip),
        "prefixlen": address.network.prefixlen,
    }
    if address.version == 6:
        # There are no neighbours to ask on a TUN: the address is usable at once.
        arguments["flags"] = _IFA_F_NODAD
    return arguments


def _route_arguments(route: KernelRoute) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": _FAMILY[route.prefix.version],
        "dst": str(route.prefix),
        "proto": ROUTE_PROTOCOL,
        "table": _TABLE_LOCAL if route.broadcast else _TABLE_MAIN,
        "type": _RTN_BROADCAST if route.broadcast else _RTN_UNICAST,
        "scope": _SCOPE_LINK if route.prefix.version == 4 else _SCOPE_UNIVERSE,
    }
    if route.source is not None:
        arguments["prefsrc"] = str(route.source)
    return arguments


def _sort_key(item: Interface | Network) -> tuple[int, Any]:
    return item.version, item


def _refused(what: str, exc: NetlinkError) -> str:
    """One line for what the host refused to do."""
    if exc.code == errno.EPERM:
        return f"no permission to {what}: it needs CAP_NET_ADMIN; run as root"
    if exc.code == errno.EEXIST:
        return f"cannot {what}: another device has it already; remove it there, or use another one"
    return f"cannot {what}: {os.strerror(exc.code)}"
