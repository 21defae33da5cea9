"""Network namespaces, an underlay network between them, and the right to make both."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from tunmesh.errors import TunmeshError
from tunmesh_tun_linux.demo import signals

PREFIX = "tunmesh-demo-"
UNDERLAY = f"{PREFIX}underlay"

# <linux/sched.h>, <linux/capability.h>, <linux/prctl.h>
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class DemoError(TunmeshError):
    """The demo cannot go on; the message may end with the last lines of a node's log."""


def become_root() -> bool:
    """Make sure that this process may make network namespaces.

    Without the capabilities for it, the process moves into a user namespace in which it is root,
    with a mount namespace whose ``/run`` is its own. Must be called before any thread is started.

    Returns:
        Whether it moved.

    Raises:
        DemoError: The kernel allows neither.
    """
    needed = 1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN
    if _effective_capabilities() & needed == needed:
        return False
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise DemoError(
            f"the demo needs root, or user namespaces, which this kernel refuses ({reason}): "
            "run it with sudo, or allow them (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        )
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as exc:
        raise DemoError(
            f"this system gives user namespaces no rights ({exc.strerror}): run the demo with sudo"
        ) from exc
    run = os.path.realpath("/var/run").encode()
    if _libc.mount(b"tmpfs", run, b"tmpfs", 0, b"mode=0755") != 0:
        reason = os.strerror(ctypes.get_errno())
        raise DemoError(f"cannot mount {run.decode()} in a user namespace: {reason}")
    return True


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the right to the names of the demo's namespaces.

    Raises:
        DemoError: Another demo is running.
    """
    # An abstract address: nothing in the file system that a killed demo could leave behind.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind("\0tunmesh-demo")
        except OSError as exc:
            raise DemoError("another demo is running on this machine: end it first") from exc
        yield


def node_namespace(number: int) -> str:
    """Name of the namespace of one node, counted from 1."""
    return f"{PREFIX}{number}"


def create(names: Sequence[str]) -> None:
    """Make namespaces with a loopback device that is up.

    Raises:
        DemoError: The kernel refuses.
    """
    for name in names:
        try:
            with signals.held():
                netns.create(name)
            with entered(name), IPRoute() as netlink:
                netlink.link("set", index=socket.if_nametoindex("lo"), state="up")
        except (OSError, NetlinkError) as exc:
            raise DemoError(f"cannot make network namespace {name}: {exc}") from exc


def remove_all() -> None:
    """Remove every namespace of a demo, also those that a killed one left behind."""
    for name in netns.listnetns():
        if name.startswith(PREFIX):
            netns.remove(name)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Be in a namespace. Sockets and processes that are made inside belong to it for good."""
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()


def enter_for_good(name: str, signal_number: int) -> None:
    """Move a new child process into a namespace, and let it end with its parent.

    Args:
        name: The namespace.
        signal_number: What the child gets when its parent ends, however that ends.
    """
    signals.restore()
    _libc.prctl(_PR_SET_PDEATHSIG, signal_number)
    netns.setns(name, flags=0)


def underlay_address(number: int) -> str:
    """Address of one node in the underlay network, a network reserved for examples."""
    return f"192.0.2.{number}"


def build_underlay(nodes: int) -> None:
    """Connect the namespaces of all nodes by a bridge in a namespace of its own.

    Raises:
        DemoError: The kernel refuses.
    """
    try:
        with entered(UNDERLAY), IPRoute() as netlink:
            netlink.link("add", ifname="bridge", kind="bridge")
            bridge = socket.if_nametoindex("bridge")
            netlink.link("set", index=bridge, state="up")
            for number in range(1, nodes + 1):
                peer = {"ifname": "eth0", "net_ns_fd": node_namespace(number)}
                netlink.link("add", ifname=f"port{number}", kind="veth", peer=peer)
                port = socket.if_nametoindex(f"port{number}")
                netlink.link("set", index=port, master=bridge, state="up")
        for number in range(1, nodes + 1):
            with entered(node_namespace(number)), IPRoute() as netlink:
                eth0 = socket.if_nametoindex("eth0")
                netlink.link("set", index=eth0, state="up")
                netlink.addr("add", index=eth0, address=underlay_address(number), prefixlen=24)
    except (OSError, NetlinkError) as exc:
        raise DemoError(f"cannot build the underlay network: {exc}") from exc
