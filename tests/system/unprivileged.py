"""Runs a command as an ordinary user, with an interpreter that may lie where only root can read.

    unprivileged.py UID CAPABILITIES COMMAND…

CAPABILITIES are those that the command keeps, as ``setpriv`` writes them: ``-all`` for none,
``-all,+net_admin`` for one.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import tempfile
from pathlib import Path

_CLONE_NEWNS = 0x00020000
MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount something, as the system call does."""
    arguments = (source.encode(), target.encode(), kind.encode(), flags, data.encode())
    if _libc.mount(*arguments):
        raise OSError(ctypes.get_errno(), f"mount {source} at {target}")


def open_to_all(path: Path) -> None:
    """Make a file reachable for everybody, in a mount namespace that this process has alone."""
    closed = next(
        (parent for parent in reversed(path.parents) if not parent.stat().st_mode & 1), None
    )
    if closed is None:
        return
    inner = closed / path.relative_to(closed).parts[0]
    with tempfile.TemporaryDirectory() as aside:
        mount(str(inner), aside, "", MS_BIND | _MS_REC)
        mount("tmpfs", str(closed), "tmpfs", 0, "mode=0755")
        inner.mkdir()
        mount(aside, str(inner), "", MS_BIND | _MS_REC)
        _libc.umount2(aside.encode(), 2)


def _open_tun_to_all() -> None:
    """Give ``/dev/net/tun`` the mode that it has on most systems."""
    device = Path("/dev/net/tun")
    if device.stat().st_mode & 0o006 == 0o006:
        return
    number = device.stat().st_rdev
    mount("tmpfs", str(device.parent), "tmpfs", 0, "mode=0755")
    os.mknod(device, 0o600 | stat.S_IFCHR, number)
    device.chmod(0o666)


def own_mounts() -> None:
    """Have a mount namespace for this process alone."""
    if _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def become(uid: str, capabilities: str, *command: str) -> None:
    """Become that user, then the command."""
    may_set_groups = Path("/proc/self/setgroups").read_text().strip() == "allow"
    os.execvp(
        "setpriv",
        [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={uid}",
            "--clear-groups" if may_set_groups else "--keep-groups",
            f"--inh-caps={capabilities}",
            f"--ambient-caps={capabilities}",
            f"--bounding-set={capabilities}",
            "--no-new-privs",
            "--",
            *command,
        ],
    )


def main(uid: str, capabilities: str, *command: str) -> None:
    """Make what the user needs reachable, become that user, then the command."""
    own_mounts()
    if uid != "0":
        open_to_all(Path(sys.executable).resolve())
        _open_tun_to_all()
    become(uid, capabilities, *command)


if __name__ == "__main__":
    main(*sys.argv[1:])
