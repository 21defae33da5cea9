"""What the core looks at on a host. Reads files only; plugins look at what is theirs."""

from __future__ import annotations

import ctypes
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunmesh.cli.doctor.routes import (
    HostRoute,
    covers,
    of_underlay,
    overlaps,
    parse_routes4,
    parse_routes6,
)
from tunmesh.interfaces.checks import Finding, HostView, Level

if TYPE_CHECKING:
    from tunmesh.admin.status import Status

#: Seconds since 1970 of a moment before this program was written.
_LONG_AGO = 1_735_689_600  # 2025-01-01
#: What adjtimex(2) returns for a clock that nobody sets.
_TIME_ERROR = 5
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_STRICT = 1


def check_host(host: HostView, devices: Sequence[str], now: float) -> Iterator[Finding]:
    """Everything that the core looks at.

    Args:
        host: The host.
        devices: The tunnel's devices: of the configuration and of the running node.
        now: Seconds since 1970.
    """
    yield check_clock(now, synchronized=clock_synchronized())
    routes = [
        *parse_routes4(host.read("/proc/net/route") or ""),
        *parse_routes6(host.read("/proc/net/ipv6_route") or ""),
    ]
    underlay = of_underlay(routes, devices)
    taken = list(_overlaps(host, underlay))
    yield from taken or [Finding("networks", "ok", "no route of this host overlaps the mesh")]
    yield from _reverse_path(host, overlapping=any(found.level == "broken" for found in taken))
    yield from _subnets(host, underlay)


def clock_synchronized() -> bool:
    """Whether somebody keeps the clock right (adjtimex(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(512))  # modes 0: only asks
    return state != _TIME_ERROR


def check_clock(now: float, *, synchronized: bool) -> Finding:
    """Whether the clock is right, as far as that can be seen."""
    mend = "timedatectl set-ntp true"
    if now < _LONG_AGO:
        year = time.gmtime(now).tm_year
        text = f"the clock says {year}: certificates and tokens look as if they were of the future"
        return Finding("clock", "broken", text, mend)
    if not synchronized:
        text = "nobody keeps the clock right: HTTPS refuses tokens when it is minutes off"
        return Finding("clock", "notice", text, mend)
    return Finding("clock", "ok", "the clock is kept right")


def _overlaps(host: HostView, underlay: Sequence[HostRoute]) -> Iterator[Finding]:
    for network in host.networks:
        for route, taken in overlaps(underlay, network):
            way = f"route {route.prefix} by {route.device}"
            command = "ip -6 route" if route.prefix.version == 6 else "ip route"
            if taken:
                text = f"{way} takes packets to the mesh network {network} away from the tunnel"
                mend = f"{command} del {route.prefix} dev {route.device}"
                yield Finding("networks", "broken", text, f"{mend}, or other mesh.networks")
            else:
                text = f"the mesh network {network} hides a part of the {way}"
                yield Finding("networks", "notice", text, "other mesh.networks, if hosts are there")


def _reverse_path(host: HostView, *, overlapping: bool) -> Iterator[Finding]:
    """Strict filters of IPv4 drop what comes from a device that its source is not routed to."""
    if 4 not in host.versions():
        return
    directory = "/proc/sys/net/ipv4/conf"
    everywhere = host.number(f"{directory}/all/rp_filter") or 0
    own = host.number(f"{directory}/{host.device or 'default'}/rp_filter") or 0
    if max(everywhere, own) != _STRICT:
        yield Finding("rp_filter", "ok", "the reverse path filter is not strict")
        return
    text = "the reverse path filter is strict: this host drops, unseen by tunmesh, what comes "
    text += "from the mesh with a source that is routed elsewhere"
    level: Level = "warning" if overlapping else "notice"
    name = f"net.ipv4.conf.{'all' if everywhere == _STRICT else host.device or 'default'}.rp_filter"
    yield Finding("rp_filter", level, text, f"sysctl -w {name}=2")


def _subnets(host: HostView, underlay: Sequence[HostRoute]) -> Iterator[Finding]:
    """Whether the host can do what its subnets promise."""
    for version in sorted({subnet.version for subnet in host.subnets}):
        setting = _FORWARDING[version]
        if host.number(f"/proc/sys/{setting.replace('.', '/')}"):
            yield Finding("forwarding", "ok", f"this host forwards IPv{version}")
        else:
            text = f"node.subnets has IPv{version} prefixes, and this host does not forward them"
            yield Finding("forwarding", "broken", text, f"sysctl -w {setting}=1")
    for subnet in host.subnets:
        if subnet.prefixlen and not any(covers(route, subnet) for route in underlay):
            text = f"node.subnets has {subnet}, and no route of this host leads there"
            yield Finding("subnets", "warning", text, f"ip route add {subnet} via ROUTER")


def check_state_dir(directory: Path) -> Iterator[Finding]:
    """Whether others can read the node's key."""
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        return  # made at the start
    except OSError as error:
        text = f"node.state_dir {directory}: {error.strerror}"
        yield Finding("state", "broken", text, f"mkdir -p -m 700 {directory}")
        return
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"node.state_dir {directory} is open to others than its owner"
        yield Finding("state", "warning", text, f"chmod 700 {directory}")
    else:
        yield Finding("state", "ok", f"{directory} is its owner's alone")


def check_node(status: Status) -> Iterator[Finding]:
    """What the running node says of itself."""
    log = "see its log"
    if not status.node.healthy:
        yield Finding("node", "broken", "the node says that it is not healthy", log)
    for warning in status.warnings:
        text, _, command = warning.partition("; run ")
        yield Finding("node", "warning", text, command.strip("`") or log)
    for conflict in status.conflicts:
        yield Finding("addresses", "broken", conflict, "another node.addresses on one of them")
    for refused in status.refused:
        text = f"{refused.prefix} of {refused.peer} is not used: {refused.reason}"
        yield Finding("routes", "notice", text, "routing.accept_subnets, if it should be")
    up = sum(peer.state == "up" for peer in status.peers)
    if status.peers and not up:
        text = f"none of {len(status.peers)} peers can be reached"
        yield Finding("peers", "broken", text, "open the ports of its endpoints in the firewall")
    elif not status.peers:
        yield Finding(
            "peers", "notice", "the node knows no other", "bootstrap.*.urls, if it should"
        )
    else:
        yield Finding("peers", "ok", f"{up} of {len(status.peers)} peers are up")
