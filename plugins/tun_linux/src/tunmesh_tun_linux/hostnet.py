"""The host's configuration around the device, by netlink: link settings, addresses, routes.

Everything here blocks, so the device calls it in worker threads. In the end addresses and routes
go with the device; only where the device stays they are removed one by one.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pyroute2 import IPRoute, NetlinkError

from tunmesh.errors import TunError
from tunmesh_tun_linux.helper import HelpedNetlink
from tunmesh_tun_linux.requests import (
    IFA_F_NODAD,
    RTN_BROADCAST,
    RTN_UNICAST,
    TABLE_LOCAL,
    TABLE_MAIN,
)
from tunmesh_tun_linux.routes import KernelRoute, wanted_routes
from tunmesh_tun_linux.rules import PROTOCOL, TABLE, apply_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tunmesh.interfaces import DeviceConfig
    from tunmesh.interfaces.tun import Interface, Network
    from tunmesh_tun_linux.helper import HelperProcess

log = logging.getLogger(__name__)

#: Marks our routes in the kernel's tables: ``ip route show proto 84``.
ROUTE_PROTOCOL = PROTOCOL

#: Bytes of the largest superpacket. With the headers of its slices it fits one `sendmsg`, which
#: takes 64 segments and 65,507 bytes.
GSO_MAX_SIZE = 63_000

# <linux/rtnetlink.h>, <linux/if.h>, <linux/if_addr.h>
_SCOPE_UNIVERSE = 0
_SCOPE_LINK = 253
_IFF_UP = 0x1
_IFA_F_STABLE_PRIVACY = 0x800

#: Prefix, whether it is a broadcast address, whether it has a table of its own.
_Kind: TypeAlias = "tuple[Network, bool, bool]"

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass
class _Outcome:
    """What became of a configuration."""

    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: What is not there and may not be added by this process.
    lacking: list[str] = field(default_factory=list)


class HostNet:
    """The network configuration of one device. For one thread at a time.

    Args:
        device: Name of the device.
        helper: Changes addresses and routes where this process may not, or soon may not.
    """

    def __init__(self, device: str, helper: HelperProcess | None = None) -> None:
        self._device = device
        self._helper = helper
        #: What was added here. What else the device has is somebody else's: it stays.
        self._added: set[Interface] = set()
        self._added_routes: set[KernelRoute] = set()
        #: Addresses that the kernel itself gave to the device. It does so once only.
        self._of_kernel: set[Interface] = set()
        #: In the rules that were added, if any were: they do not go with the device.
        self._mark = 0

    def bring_up(self, mtu: int, txqueuelen: int, *, any_mtu: bool = False) -> int:
        """Set the link's properties and switch it on, as far as that is not done already.

        Args:
            mtu: The MTU.
            txqueuelen: Packets that may wait in the device.
            any_mtu: Whether another MTU will do, too, if this process may not change it.

        Returns:
            The MTU.

        Raises:
            TunError: The host refused.
        """
        with self._netlink() as (netlink, index):
            (link,) = netlink.get_links(index)
            is_up = bool(link["flags"] & _IFF_UP)
            present = {"mtu": link.get_attr("IFLA_MTU"), "txqlen": link.get_attr("IFLA_TXQLEN")}
            wanted = {"mtu": mtu, "txqlen": txqueuelen}
            changes: dict[str, Any] = {k: v for k, v in wanted.items() if present[k] != v}
            if not is_up:
                changes["state"] = "up"
            if changes:
                try:
                    netlink.link("set", index=index, **changes)
                except NetlinkError as exc:
                    usable = is_up and (any_mtu or present["mtu"] == mtu)
                    if not usable or exc.code != errno.EPERM:
                        raise TunError(_refused(f"set up device {self._device}", exc)) from exc
                    mtu = present["mtu"]
            try:
                # Being below 64 KiB, this is the limit of IPv4 as well.
                if link.get_attr("IFLA_GSO_MAX_SIZE") != GSO_MAX_SIZE:
                    netlink.link("set", index=index, gso_max_size=GSO_MAX_SIZE)
            except NetlinkError as exc:
                # Nothing is lost but speed: the largest superpackets take two sends.
                log.info("gso_max_size refused device=%s error=%s", self._device, exc)
        return mtu

    def apply(self, config: DeviceConfig, extra: Iterable[Network] = ()) -> list[str]:
        """Make addresses and routes be what is asked for, changing only what differs.

        What the host refuses does not stop the rest.

        Args:
            config: The configuration.
            extra: Further prefixes to route into the device.

        Returns:
            What was missing, and was added.

        Raises:
            TunError: The host refused something.
        """
        extra = tuple(extra)
        addresses = set(config.addresses)
        routes = wanted_routes(config, extra)
        without_ipv6 = ipv6_problem(self._device)
        if without_ipv6:
            if any(item.version == 6 for item in (*config.addresses, *config.networks, *extra)):
                raise TunError(without_ipv6)
            # What other nodes announce must not stop a host without IPv6.
            routes = {route for route in routes if route.prefix.version == 4}
        outcome = _Outcome()
        with self._netlink() as (netlink, index):
            if not without_ipv6:
                self._of_kernel |= _link_local_of_kernel(netlink, index)
                addresses |= self._of_kernel
            self._apply_addresses(netlink, index, addresses, outcome)
            # Removing an address may have removed routes, so these come second.
            self._apply_routes(netlink, index, routes, outcome)
            defaults: set[int] = {route.prefix.version for route in routes if route.apart}
            if defaults or self._mark:
                self._mark = config.mark
                outcome.problems += self._apply_rules(netlink, defaults, config.underlay)
        if outcome.lacking:
            outcome.problems.append(
                f"device {self._device} lacks {', '.join(outcome.lacking)}, and this process has "
                "no permission to add that: run it as root or with CAP_NET_ADMIN, "
                "or have `tunmesh tun setup` do it before"
            )
        if outcome.problems:
            raise TunError("; ".join(outcome.problems))
        return outcome.changes

    def _apply_addresses(
        self, netlink: IPRoute, index: int, wanted: set[Interface], outcome: _Outcome
    ) -> None:
        for address in (self._added - wanted) & _addresses(netlink, index):
            try:
                netlink.addr("del", index=index, **_address_arguments(address))
            except NetlinkError as exc:
                # An IPv4 address takes the others of its subnet along.
                if exc.code != errno.EADDRNOTAVAIL:
                    outcome.problems.append(_refused(f"remove address {address}", exc))
        self._added &= wanted
        for address in sorted(wanted - _addresses(netlink, index), key=_sort_key):
            try:
                netlink.addr("add", index=index, **_address_arguments(address))
            except NetlinkError as exc:
                if exc.code == errno.EPERM:
                    outcome.lacking.append(f"address {address}")
                else:
                    what = f"add address {address} to {self._device}"
                    outcome.problems.append(_refused(what, exc))
            else:
                self._added.add(address)
                outcome.changes.append(f"address {address}")

    def _apply_routes(
        self, netlink: IPRoute, index: int, wanted: set[KernelRoute], outcome: _Outcome
    ) -> None:
        present, foreign = _routes(netlink, index)
        wanted = wanted | _connected(_addresses(netlink, index), foreign)
        for route in present - wanted:
            try:
                netlink.route("del", oif=index, **route_arguments(route))
            except NetlinkError as exc:
                if exc.code != errno.ESRCH:
                    outcome.problems.append(_refused(f"remove route {route.prefix}", exc))
        self._added_routes &= wanted
        for route in sorted(wanted - present, key=lambda route: _sort_key(route.prefix)):
            try:
                netlink.route("add", oif=index, **route_arguments(route))
            except NetlinkError as exc:
                if exc.code == errno.EEXIST and _kind(route) in foreign:
                    continue  # somebody else made the same route
                if exc.code == errno.EPERM and _covered(route, foreign):
                    continue  # that will do
                if exc.code != errno.EPERM:
                    what = f"route {route.prefix} into {self._device}"
                    outcome.problems.append(_refused(what, exc))
                elif route.essential:
                    outcome.lacking.append(f"route {route.prefix}")
            else:
                self._added_routes.add(route)
                outcome.changes.append(f"route {route.prefix}")

    def _apply_rules(
        self, netlink: IPRoute, versions: set[int], underlay: tuple[Interface, ...]
    ) -> list[str]:
        return [
            _refused(f"set rules for a default route of IPv{version}", exc)
            for version, exc in apply_rules(netlink, versions, underlay, self._mark)
        ]

    def close(self, *, device_stays: bool) -> None:
        """Remove what would outlive the node. A helper does that by itself.

        Args:
            device_stays: Whether the device does not go with the node.
        """
        if self._helper is not None:
            return
        if self._mark:
            with IPRoute(strict_check=True) as netlink:
                for problem in self._apply_rules(netlink, set(), ()):
                    log.warning("%s", problem)
            self._mark = 0
        if device_stays:
            with suppress(TunError), self._netlink() as (netlink, index):  # else it is gone
                for route in self._added_routes:
                    with suppress(NetlinkError):  # it is gone already
                        netlink.route("del", oif=index, **route_arguments(route))
                for address in self._added:
                    with suppress(NetlinkError):
                        netlink.addr("del", index=index, **_address_arguments(address))

    @contextmanager
    def _netlink(self) -> Iterator[tuple[IPRoute, int]]:
        """A netlink socket, and the device's index."""
        try:
            index = socket.if_nametoindex(self._device)
        except OSError as exc:
            raise TunError(f"device {self._device} is gone") from exc
        with IPRoute(strict_check=True) as netlink:
            if self._helper is None:
                yield netlink, index
            else:
                yield HelpedNetlink(netlink, self._helper), index


def underlay_addresses(device: str) -> tuple[Interface, ...]:
    """The addresses of this host on other interfaces than the device, with their prefixes.

    Without loopback addresses, and without link-local ones, since every link has the same prefix.

    Raises:
        TunError: The host refuses to tell.
    """
    found = set()
    try:
        index = socket.if_nametoindex(device)
        with IPRoute(strict_check=True) as netlink:
            for message in netlink.get_addr():
                address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                item = ipaddress.ip_interface(f"{address}/{message['prefixlen']}")
                if message["index"] != index and not (item.is_loopback or item.is_link_local):
                    found.add(item)
    except (NetlinkError, OSError) as exc:
        raise TunError(f"cannot read the addresses of this host: {exc}") from exc
    return tuple(sorted(found, key=_sort_key))


def forwards(version: int) -> bool:
    """Whether this host forwards packets of a version of IP."""
    name = "ipv4/ip_forward" if version == 4 else "ipv6/conf/all/forwarding"
    try:
        return Path("/proc/sys/net", name).read_text().strip() != "0"
    except FileNotFoundError:  # a host without IPv6
        return False


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


def _link_local_of_kernel(netlink: IPRoute, index: int) -> set[Interface]:
    """The link-local addresses that the kernel itself made for the device."""
    return {
        ipaddress.ip_interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")
        for message in netlink.get_addr(index=index, family=socket.AF_INET6)
        if (message.get_attr("IFA_FLAGS") or 0) & _IFA_F_STABLE_PRIVACY
        and message["scope"] == _SCOPE_LINK
    }


def _routes(netlink: IPRoute, index: int) -> tuple[set[KernelRoute], set[_Kind]]:
    """The routes into the device: those that are ours, and of what kinds the others are."""
    ours: set[KernelRoute] = set()
    others: set[_Kind] = set()
    for family in _FAMILY.values():
        for message in netlink.get_routes(family=family, oif=index):
            if message.get_attr("RTA_OIF") != index:
                continue  # kernels before 4.20 do not filter
            unspecified = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104
            destination = message.get_attr("RTA_DST") or unspecified
            source = message.get_attr("RTA_PREFSRC")
            route = KernelRoute(
                prefix=ipaddress.ip_network(f"{destination}/{message['dst_len']}"),
                source=ipaddress.ip_address(source) if source else None,
                broadcast=message["type"] == RTN_BROADCAST,
                apart=message.get_attr("RTA_TABLE") == TABLE,
            )
            if message["proto"] == ROUTE_PROTOCOL:
                ours.add(route)
            elif message["type"] in {RTN_UNICAST, RTN_BROADCAST}:
                others.add(_kind(route))
    return ours, others


def _connected(addresses: Iterable[Interface], present: set[_Kind]) -> set[KernelRoute]:
    """The routes to the subnets of addresses that are missing.

    The kernel makes one with each address; when somebody has removed it, it does not come back.
    """
    missing: dict[Network, KernelRoute] = {}
    for address in sorted(addresses, key=_sort_key):
        prefix = address.network
        source = address.ip if address.version == 4 else None
        route = KernelRoute(prefix, source)
        if prefix.prefixlen < prefix.max_prefixlen and _kind(route) not in present:
            missing.setdefault(prefix, route)
    return set(missing.values())


def _covered(route: KernelRoute, others: set[_Kind]) -> bool:
    """Whether what a route leads into the device goes there by another one as well."""
    return any(
        prefix.version == route.prefix.version
        and prefix.prefixlen <= route.prefix.prefixlen
        and route.prefix.network_address in prefix
        for prefix, broadcast, _ in others
        if broadcast == route.broadcast
    )


def _kind(route: KernelRoute) -> _Kind:
    return route.prefix, route.broadcast, route.apart


def _address_arguments(address: Interface) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": _FAMILY[address.version],
        "address": str(address.ip),
        "prefixlen": address.network.prefixlen,
    }
    if address.version == 6:
        # There are no neighbours to ask on a TUN: the address is usable at once.
        arguments["flags"] = IFA_F_NODAD
    return arguments


def route_arguments(route: KernelRoute) -> dict[str, Any]:
    """The arguments for `pyroute2.IPRoute.route`, but for the device."""
    arguments: dict[str, Any] = {
        "family": _FAMILY[route.prefix.version],
        "dst": str(route.prefix),
        "proto": ROUTE_PROTOCOL,
        "table": _table(route),
        "type": RTN_BROADCAST if route.broadcast else RTN_UNICAST,
        "scope": _SCOPE_LINK if route.prefix.version == 4 else _SCOPE_UNIVERSE,
    }
    if route.source is not None:
        arguments["prefsrc"] = str(route.source)
    return arguments


def _table(route: KernelRoute) -> int:
    if route.broadcast:
        return TABLE_LOCAL
    return TABLE if route.apart else TABLE_MAIN


def _sort_key(item: Interface | Network) -> tuple[int, Any]:
    return item.version, item


def _refused(what: str, exc: NetlinkError) -> str:
    """One line for what the host refused to do."""
    if exc.code == errno.EPERM:
        return f"no permission to {what}: it needs CAP_NET_ADMIN; run as root"
    if exc.code == errno.EEXIST:
        return f"cannot {what}: another device has it already; remove it there, or use another one"
    return f"cannot {what}: {os.strerror(exc.code)}"
