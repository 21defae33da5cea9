"""The descriptor of a TUN device: opening it and agreeing on offloads. Knows no netlink."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn

from tunmesh.errors import TunError

CLONE_DEVICE = "/dev/net/tun"

# <linux/if_tun.h>
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOWNER = 0x400454CC
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
TUNGETIFF = 0x800454D2
TUNSETVNETLE = 0x400454DC
IFF_TUN = 0x0001
IFF_PERSIST = 0x0800
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


class TunFile(NamedTuple):
    """An open TUN device.

    Attributes:
        fd: The descriptor, non-blocking.
        name: The device's name.
        offloads: What the kernel agreed to.
        persistent: Whether the device stays when the descriptor is closed.
    """

    fd: int
    name: str
    offloads: frozenset[str]
    persistent: bool


def open_tun(name: str) -> TunFile:
    """Create a TUN device whose frames carry a `virtio_net_hdr`, or attach to a persistent one.

    A device that is created here goes with its descriptor, with its addresses and routes.

    Args:
        name: Name of the device.

    Raises:
        TunError: The device can neither be created nor attached to.
    """
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        _cannot_open(exc)
    try:
        attach(fd, name)
        return _prepared(fd)
    except BaseException:
        os.close(fd)
        raise


def adopt_tun(fd: int, name: str) -> TunFile:
    """Use a descriptor that somebody else opened.

    Args:
        fd: The descriptor. It may be attached to a device already; otherwise that is done here.
        name: Name of the device in that case.

    Raises:
        TunError: It is no descriptor of a TUN device, or of one that cannot be used.
    """
    try:
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        try:
            fcntl.ioctl(fd, TUNGETIFF, bytearray(_IFREQ.size))
        except OSError as exc:
            if exc.errno != errno.EBADFD:
                raise
            attach(fd, name)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise TunError(f"plugins.tun_linux.fd: descriptor {fd} is no TUN device: {reason}") from exc
    return _prepared(fd)


def attach(fd: int, name: str) -> None:
    """Give a descriptor its device: the one of that name if there is one, else a new one.

    Raises:
        TunError: The kernel refuses.
    """
    encoded = name.encode()
    if len(encoded) >= _IFNAMSIZ:
        raise TunError(
            f"device name {name} is longer than 15 bytes: choose a shorter plugins.tun_linux.device"
        )
    exists = name in {known for _, known in socket.if_nameindex()}
    # What does not exist must still not exist then: a device of another program is not ours.
    flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (0 if exists else IFF_TUN_EXCL)
    try:
        fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(encoded, flags))
    except OSError as exc:
        _cannot_attach(name, exc, exists=exists)


def _prepared(fd: int) -> TunFile:
    """Agree on the form of the frames with the kernel."""
    answer = bytearray(_IFREQ.size)
    fcntl.ioctl(fd, TUNGETIFF, answer)
    encoded, flags = _IFREQ.unpack(answer)
    name = encoded.rstrip(b"\0").decode()
    needed = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
    if flags & needed != needed:
        raise TunError(
            f"device {name} was opened in another way: it needs IFF_TUN, IFF_NO_PI and IFF_VNET_HDR"
        )
    try:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, _INT.pack(_VNET_HEADER_SIZE))
        fcntl.ioctl(fd, TUNSETVNETLE, _INT.pack(1))
        offloads = negotiate_offloads(partial(fcntl.ioctl, fd, TUNSETOFFLOAD))
    except OSError as exc:
        _cannot_attach(name, exc, exists=True)
    return TunFile(fd, name, offloads, persistent=bool(flags & IFF_PERSIST))


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


def _cannot_attach(name: str, exc: OSError, *, exists: bool) -> NoReturn:
    if exc.errno in (errno.EPERM, errno.EACCES) and exists:
        message = (
            f"no permission to use device {name}: it belongs to another user; "
            "`tunmesh tun setup --owner` makes one for this user"
        )
    elif exc.errno in (errno.EPERM, errno.EACCES):
        message = (
            f"no permission to create device {name}: it needs CAP_NET_ADMIN; run as root, "
            "start the container with `--cap-add NET_ADMIN`, "
            "or have `tunmesh tun setup` make it before"
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
