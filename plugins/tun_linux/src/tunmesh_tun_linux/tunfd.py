"""The descriptor of a TUN device: opening it and agreeing on offloads. Knows no netlink."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from tunmesh.errors import TunError

CLONE_DEVICE = "/dev/net/tun"

# <linux/if_tun.h>
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
TUNSETVNETLE = 0x400454DC
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40

#: ``struct ifreq`` with a name and flags; the kernel copies all 40 bytes.
_IFREQ = struct.Struct("16sH22x")
_INT = struct.Struct("i")
_IFNAMSIZ = 16
_VNET_HEADER_SIZE = 10

#: What is asked of the kernel, best first. USO came with Linux 6.2 and only as a pair.
_OFFLOAD_STEPS = (
    (
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6,
        frozenset({"csum", "tso4", "tso6", "uso4", "uso6"}),
    ),
    (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, frozenset({"csum", "tso4", "tso6"})),
    (TUN_F_CSUM, frozenset({"csum"})),
)


def open_tun(name: str) -> tuple[int, frozenset[str]]:
    """Create a TUN device whose frames carry a `virtio_net_hdr`.

    The device must not exist yet, so that closing the descriptor removes it with its addresses
    and routes, and nothing that somebody else set up.

    Args:
        name: Name of the device.

    Returns:
        The non-blocking descriptor, and the offloads that the kernel agreed to.

    Raises:
        TunError: The device cannot be created.
    """
    encoded = name.encode()
    if len(encoded) >= _IFNAMSIZ:
        raise TunError(
            f"device name {name} is longer than 15 bytes: choose a shorter plugins.tun_linux.device"
        )
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        _cannot_open(exc)
    try:
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL
        fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(encoded, flags))
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, _INT.pack(_VNET_HEADER_SIZE))
        fcntl.ioctl(fd, TUNSETVNETLE, _INT.pack(1))
        offloads = negotiate_offloads(partial(fcntl.ioctl, fd, TUNSETOFFLOAD))
    except OSError as exc:
        os.close(fd)
        _cannot_create(name, exc)
    return fd, offloads


def negotiate_offloads(request: Callable[[int], object]) -> frozenset[str]:
    """Switch on the best set of offloads that the kernel knows.

    Args:
        request: Asks the kernel for a set of ``TUN_F_*``.

    Returns:
        What is switched on now; empty if nothing is.
    """
    for flags, names in _OFFLOAD_STEPS:
        try:
            request(flags)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
        else:
            return names
    return frozenset()


def _cannot_open(exc: OSError) -> NoReturn:
    if exc.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        message = (
            f"no {CLONE_DEVICE}: load the module with `modprobe tun`, "
            f"or give the container the device with `--device {CLONE_DEVICE}`"
        )
    elif exc.errno in (errno.EACCES, errno.EPERM):
        message = (
            f"no permission to open {CLONE_DEVICE}: run as root, "
            f"or allow this user (or the container) to read and write it"
        )
    else:
        message = f"cannot open {CLONE_DEVICE}: {os.strerror(exc.errno or 0)}"
    raise TunError(message) from exc


def _cannot_create(name: str, exc: OSError) -> NoReturn:
    if exc.errno in (errno.EPERM, errno.EACCES):
        message = (
            f"no permission to create device {name}: it needs CAP_NET_ADMIN; run as root, "
            "or start the container with `--cap-add NET_ADMIN`"
        )
    elif exc.errno in (errno.EBUSY, errno.EEXIST):
        message = (
            f"device {name} exists already: stop what uses it, remove it with "
            f"`ip link delete {name}`, or choose another name for plugins.tun_linux.device"
        )
    elif exc.errno == errno.EINVAL:
        message = (
            f"the kernel refuses device {name}: another kind of device may have that name, or it "
            "is no valid name; choose another one for plugins.tun_linux.device"
        )
    else:
        message = f"cannot create device {name}: {os.strerror(exc.errno or 0)}"
    raise TunError(message) from exc
