"""The capabilities of a thread (capabilities(7)), and the prctl(2) calls about them."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

# <linux/capability.h>
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_NET_ADMIN = 12
_VERSION_3 = 0x20080522

# <linux/prctl.h>
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Capabilities:
    """The sets of one thread, as masks, and whether it can gain privileges by a program's file."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privileges: bool

    @property
    def usable(self) -> int:
        """What the thread can use now, or take into use."""
        return self.permitted | self.effective | self.ambient


def capabilities(thread: int | str = "self") -> Capabilities:
    """What a thread may do.

    Args:
        thread: Its id; that of a process is its first thread's.
    """
    path = Path("/proc/thread-self" if thread == "self" else f"/proc/{thread}", "status")
    values = dict(line.split(":", 1) for line in path.read_text().splitlines())
    names = ("Inh", "Prm", "Eff", "Bnd", "Amb")
    inheritable, permitted, effective, bounding, ambient = (
        int(values[f"Cap{name}"], 16) for name in names
    )
    return Capabilities(
        inheritable,
        permitted,
        effective,
        bounding,
        ambient,
        no_new_privileges=values["NoNewPrivs"].strip() == "1",
    )


def set_capabilities(mask: int) -> None:
    """Make a mask the effective and permitted capabilities of this thread, and none inheritable.

    Raises:
        OSError: The thread does not have them.
    """
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    for half, item in enumerate(data):
        item.effective = item.permitted = mask >> 32 * half & 0xFFFF_FFFF
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)):
        raise _error("capset")


def prctl(option: int, *arguments: int) -> None:
    """Make a call about the process or the thread.

    Raises:
        OSError: The kernel refused.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    if _libc.prctl(option, *map(ctypes.c_ulong, padded)) < 0:
        raise _error(f"prctl {option}")


def empty_bounding_set() -> None:
    """Keep this thread, and what it starts, from ever gaining a capability by a program's file.

    Without ``CAP_SETPCAP`` the kernel refuses; then "no new privileges" has to do.
    """
    held = capabilities()
    if not held.effective & 1 << CAP_SETPCAP:
        return
    for number in range(held.bounding.bit_length()):
        if held.bounding & 1 << number:
            prctl(PR_CAPBSET_DROP, number)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
