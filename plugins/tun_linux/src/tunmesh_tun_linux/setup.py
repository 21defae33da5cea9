"""``tunmesh tun setup``: makes a persistent device, for a node that may not make one itself."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import pwd
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from pyroute2 import IPRoute, NetlinkError

from tunmesh.errors import ConfigError, TunError
from tunmesh.interfaces import DeviceConfig
from tunmesh.interfaces.tun import Interface, Network
from tunmesh_tun_linux.hostnet import HostNet, route_arguments
from tunmesh_tun_linux.routes import LIMITED_BROADCAST, wanted_routes
from tunmesh_tun_linux.tunfd import TUNSETOWNER, TUNSETPERSIST, open_tun

#: Somebody's own routes, which no node takes for its own: ``ip route show proto static``.
_PROTO_STATIC = 4


@dataclass(frozen=True)
class Plan:
    """What to make.

    Attributes:
        device: Name of the device.
        owner: The user who may open it, by name or number.
        addresses: Its addresses.
        networks: What is routed into it.
        mtu: Its MTU.
        txqueuelen: Packets that may wait in it.
    """

    device: str
    owner: str
    addresses: tuple[Interface, ...]
    networks: tuple[Network, ...]
    mtu: int
    txqueuelen: int


def plan(
    *,
    device: str,
    owner: str,
    addresses: Iterable[str],
    networks: Iterable[str],
    mtu: int,
    txqueuelen: int,
) -> Plan:
    """Read what was written on the command line.

    Raises:
        ConfigError: Something in it is no address, network or user.
    """
    try:
        return Plan(
            device,
            owner,
            tuple(map(ipaddress.ip_interface, addresses)),
            tuple(map(ipaddress.ip_network, networks)),
            mtu,
            txqueuelen,
        )
    except ValueError as exc:
        raise ConfigError(f"tun setup: {exc}") from exc


def set_up(wanted: Plan) -> None:
    """Make the device, or change one that was made before.

    Raises:
        ConfigError: There is no such user.
        TunError: The host refused.
    """
    uid = _uid(wanted.owner)
    opened = open_tun(wanted.device)
    try:
        fcntl.ioctl(opened.fd, TUNSETOWNER, uid)
        fcntl.ioctl(opened.fd, TUNSETPERSIST, 1)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise TunError(f"cannot make device {wanted.device} persistent: {reason}") from exc
    finally:
        os.close(opened.fd)
    host = HostNet(wanted.device)
    host.bring_up(wanted.mtu, wanted.txqueuelen)
    host.apply(DeviceConfig(wanted.addresses))
    _add_routes(wanted)


def _add_routes(wanted: Plan) -> None:
    broadcasts = {LIMITED_BROADCAST} | {
        network.broadcast_address
        for network in wanted.networks
        if isinstance(network, ipaddress.IPv4Network) and network.prefixlen < 31  # RFC 3021
    }
    config = DeviceConfig(wanted.addresses, wanted.networks, broadcasts=tuple(broadcasts))
    index = socket.if_nametoindex(wanted.device)
    with IPRoute(strict_check=True) as netlink:
        for route in wanted_routes(config):
            arguments = {**route_arguments(route), "proto": _PROTO_STATIC}
            try:
                netlink.route("replace", oif=index, **arguments)
            except NetlinkError as exc:
                reason = os.strerror(exc.code)
                raise TunError(
                    f"cannot route {route.prefix} into {wanted.device}: {reason}"
                ) from exc


def _uid(owner: str) -> int:
    if owner.isdecimal():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError as exc:
        raise ConfigError(f'tun setup: there is no user "{owner}"') from exc
