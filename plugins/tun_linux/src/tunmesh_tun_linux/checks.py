"""What ``tunmesh doctor`` looks at for the device. Brings no pyroute2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunmesh.plugin import Finding, HostView
from tunmesh.privileges import CAP_NET_ADMIN, capabilities
from tunmesh_tun_linux.options import AUTO_MTU, Options
from tunmesh_tun_linux.tunfd import CLONE_DEVICE

if TYPE_CHECKING:
    from tunmesh.interfaces.checks import Level

#: Kernels that take superpackets of UDP from a TUN device.
_USO_SINCE = (6, 2)
#: What a packet grows by until it is a datagram on Ethernet, over IPv6: virtio_net_hdr, prefix,
#: tag, header of a slice, UDP, IPv6.
_OVERHEAD = 10 + 4 + 16 + 16 + 8 + 40


def check(host: HostView) -> Iterator[Finding]:
    """Everything about the device."""
    options: Options = host.options
    yield from _clone_device(host)
    yield from _capabilities(host, options.device)
    yield from _ipv6(host)
    yield from _offloads(host)
    yield from _mtu(host, options)


def _clone_device(host: HostView) -> Iterator[Finding]:
    path = host.root / CLONE_DEVICE.lstrip("/")
    if not path.exists():
        text = f"there is no {CLONE_DEVICE}"
        mend = f"modprobe tun, or give the container --device {CLONE_DEVICE}"
        yield Finding("device", "broken", text, mend)
    elif not os.access(path, os.R_OK | os.W_OK):
        yield Finding("device", "broken", f"{CLONE_DEVICE} cannot be opened", "run as root")
    else:
        yield Finding("device", "ok", f"{CLONE_DEVICE} can be opened")


def _capabilities(host: HostView, device: str) -> Iterator[Finding]:
    """Whether a node that this user starts could make its device."""
    flags = host.read(f"/sys/class/net/{device}/tun_flags")
    if capabilities().usable & 1 << CAP_NET_ADMIN:
        yield Finding("capabilities", "ok", "this user may make devices (CAP_NET_ADMIN)")
    elif flags is not None:
        owner = host.number(f"/sys/class/net/{device}/owner")
        mine = owner == os.geteuid()
        level: Level = "ok" if mine else "broken"
        text = f"device {device} is there, and belongs to {'this user' if mine else f'uid {owner}'}"
        mend = "" if mine else f"tunmesh tun setup --device {device} --owner {os.geteuid()}"
        yield Finding("capabilities", level, text, mend)
    elif not host.device:
        text = "this user may not make devices, and there is none made for it"
        mend = (
            f"run as root, or as root: tunmesh tun setup --device {device} --owner {os.geteuid()}"
        )
        yield Finding("capabilities", "broken", text, mend)


def _ipv6(host: HostView) -> Iterator[Finding]:
    if 6 not in host.versions():
        return
    name = host.device or "default"  # a new device is made after the default
    disabled = host.number(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    if disabled is None:
        text = "this host has no IPv6, which mesh.networks has"
        mend = "boot without ipv6.disable=1, or take the IPv6 networks and addresses out"
        yield Finding("ipv6", "broken", text, mend)
    elif disabled:
        text = f"IPv6 is disabled for {host.device or 'new devices'}, and mesh.networks has it"
        yield Finding("ipv6", "broken", text, f"sysctl -w net.ipv6.conf.{name}.disable_ipv6=0")
    else:
        yield Finding("ipv6", "ok", "the device can have IPv6")


def _offloads(host: HostView) -> Iterator[Finding]:
    release = host.read("/proc/sys/kernel/osrelease") or ""
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and tuple(map(int, found.groups())) < _USO_SINCE:
        text = f"Linux {release} takes no superpackets of UDP: QUIC and the like are slower"
        yield Finding("offloads", "notice", text, "Linux 6.2 or later")
    else:
        yield Finding("offloads", "ok", "the kernel has every offload that the device uses")


def _mtu(host: HostView, options: Options) -> Iterator[Finding]:
    """Whether a full packet travels in one datagram on every network of this host."""
    mtu = AUTO_MTU if options.mtu == "auto" else int(options.mtu)
    ours = {options.device, host.device, "lo"}
    for name in host.names("/sys/class/net"):
        if name in ours or host.read(f"/sys/class/net/{name}/operstate") != "up":
            continue
        underlay = host.number(f"/sys/class/net/{name}/mtu")
        if underlay is not None and underlay < mtu + _OVERHEAD:
            text = f"{name} has an MTU of {underlay}: a full packet of {mtu} bytes takes two of its"
            mend = f"plugins.tun_linux.mtu = {max(1280, underlay - _OVERHEAD)}, on all nodes"
            yield Finding("mtu", "notice", f"{text} datagrams, which costs speed", mend)
