"""Runs a command under what a systemd unit allows, as far as that can be had without systemd.

    python -m tests.system.sandbox UNIT UID WRITABLE COMMAND…

File systems are read-only but for one directory, other users' processes are out of sight, of the
devices only those of the unit exist, and system calls are filtered by libseccomp, as systemd does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.system import unprivileged

#: What DevicePolicy=closed leaves.
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_CLONE_NEW = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 2, 4, 0o100000
_FAMILIES = 46  # AF_MAX
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1

_libc = ctypes.CDLL(None, use_errno=True)


def read_unit(path: Path) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in order."""
    settings: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", "[")):
            settings.setdefault(name, []).append(value)
    return settings


def call_names(group: str) -> Iterator[str]:
    """The system calls of a set, as systemd has them."""
    shown = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in shown.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            yield from call_names(name)
        elif name and not name.startswith("#"):
            yield name


class _Condition(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


_EQUAL, _GREATER, _MASKED = 4, 6, 7  # enum scmp_compare
_ALLOW = 0x7FFF0000


def _refuse(number: int = errno.EPERM) -> int:
    return 0x00050000 | number


class Filter:
    """One seccomp filter."""

    _library = ctypes.CDLL("libseccomp.so.2")
    _library.seccomp_init.restype = ctypes.c_void_p

    def __init__(self, default: int = _ALLOW) -> None:
        self._default = default
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, name: str, action: int, *conditions: _Condition) -> None:
        """Add a rule, unless this machine has no such call."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0 or action == self._default:
            return
        array = (_Condition * len(conditions))(*conditions)
        code = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(conditions), array
        )
        if code:
            raise OSError(-code, f"filter for {name}: {os.strerror(-code)}")

    def load(self) -> None:
        """Make it hold from now on, for this process and its children."""
        code = self._library.seccomp_load(self._context)
        if code:
            raise OSError(-code, f"filter: {os.strerror(-code)}")


def filter_calls(unit: dict[str, list[str]]) -> list[Filter]:
    """The filters of a unit; not loaded."""
    allowed, *removed = unit["SystemCallFilter"]
    names = set(call_names(allowed)) | set(call_names("@default"))
    for line in removed:
        for group in line.removeprefix("~").split():
            names -= set(call_names(group))
    general = Filter(_refuse())
    for name in names:
        general.add(name, _ALLOW)
    special = Filter()
    if unit["MemoryDenyWriteExecute"] == ["yes"]:
        both = _PROT_WRITE | _PROT_EXEC
        special.add("mmap", _refuse(), _Condition(2, _MASKED, both, both))
        special.add("mprotect", _refuse(), _Condition(2, _MASKED, _PROT_EXEC, _PROT_EXEC))
        special.add("pkey_mprotect", _refuse(), _Condition(2, _MASKED, _PROT_EXEC, _PROT_EXEC))
        special.add("shmat", _refuse(), _Condition(2, _MASKED, _SHM_EXEC, _SHM_EXEC))
    families = {getattr(socket, name) for name in unit["RestrictAddressFamilies"][0].split()}
    for family in set(range(_FAMILIES)) - families:
        special.add("socket", _refuse(errno.EAFNOSUPPORT), _Condition(0, _EQUAL, family, 0))
    special.add("socket", _refuse(errno.EAFNOSUPPORT), _Condition(0, _GREATER, _FAMILIES - 1, 0))
    if unit["RestrictNamespaces"] == ["yes"]:
        special.add("setns", _refuse())
        special.add("clone3", _refuse(errno.ENOSYS))
        for flag in _CLONE_NEW:
            special.add("unshare", _refuse(), _Condition(0, _MASKED, flag, flag))
            special.add("clone", _refuse(), _Condition(0, _MASKED, flag, flag))
    if unit["LockPersonality"] == ["yes"]:
        special.add("personality", _refuse(), _Condition(0, _GREATER, 0, 0))
    return [special, general]  # which lets nobody filter any further


def _close_devices(unit: dict[str, list[str]]) -> None:
    wanted = {name: os.makedev(*number) for name, number in _DEVICES.items()}
    for entry in unit["DeviceAllow"]:
        path = Path(entry.split()[0])
        wanted[str(path.relative_to("/dev"))] = path.stat().st_rdev
    unprivileged.mount("tmpfs", "/dev", "tmpfs", 0, "mode=0755")
    for name, number in wanted.items():
        path = Path("/dev", name)
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, stat.S_IFCHR, number)
        path.chmod(0o666)


def _read_only(directory: str, *, recursively: bool = False, undo: bool = False) -> None:
    added, removed = (0, _MOUNT_ATTR_RDONLY) if undo else (_MOUNT_ATTR_RDONLY, 0)
    attributes = (ctypes.c_uint64 * 4)(added, removed)
    flags = _AT_RECURSIVE if recursively else 0
    if _libc.mount_setattr(_AT_FDCWD, directory.encode(), flags, attributes, ctypes.c_size_t(32)):
        raise OSError(ctypes.get_errno(), f"read-only {directory}")


def outer(unit_path: str, uid: str, writable: str, *command: str) -> None:
    """Arrange what the process sees, and become the user."""
    unit = read_unit(Path(unit_path))
    unprivileged.own_mounts()
    unprivileged.mount(writable, writable, "", unprivileged.MS_BIND)
    unprivileged.open_to_all(Path(sys.executable).resolve())
    unprivileged.open_to_all(Path(__file__).resolve())
    _close_devices(unit)
    unprivileged.mount("proc", "/proc", "proc", 0, f"hidepid={unit['ProtectProc'][0]}")
    _read_only("/", recursively=True)
    _read_only(writable, undo=True)
    (ambient,) = unit["AmbientCapabilities"]
    assert unit["CapabilityBoundingSet"] == [ambient]
    assert unit["NoNewPrivileges"] == ["yes"]
    inner = (sys.executable, "-m", "tests.system.sandbox", "", unit_path, *command)
    unprivileged.become(uid, "-all,+" + ambient.removeprefix("CAP_").lower(), *inner)


def inner(unit_path: str, *command: str) -> None:
    """Filter system calls, and become the command."""
    unit = read_unit(Path(unit_path))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(int(unit["UMask"][0], 8))
    for item in filter_calls(unit):
        item.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    if sys.argv[1]:
        outer(*sys.argv[1:])
    else:
        inner(*sys.argv[2:])
