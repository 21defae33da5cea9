"""Opening the descriptor: offloads, and what can be missing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunmesh.errors import TunError
from tunmesh_tun_linux import tunfd

ALL = {"csum", "tso4", "tso6", "uso4", "uso6"}


class Kernel:
    """Knows some offloads, and refuses the others as Linux does."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.active: int | None = None

    def request(self, flags: int) -> None:
        if flags & ~self.known:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.active = flags


@pytest.mark.parametrize(
    ("known", "names"),
    [
        (0x7F, ALL),
        (0x1F, {"csum", "tso4", "tso6"}),
        (0x01, {"csum"}),
        (0x00, set()),
    ],
)
def test_offloads_fall_back(known: int, names: set[str]) -> None:
    kernel = Kernel(known)
    assert tunfd.negotiate_offloads(kernel.request) == names
    assert bool(kernel.active) == bool(names)


def test_other_refusals_are_errors() -> None:
    def request(flags: int) -> None:
        raise OSError(errno.EBADFD, "File descriptor in bad state")

    with pytest.raises(OSError, match="bad state"):
        tunfd.negotiate_offloads(request)


def test_no_device_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunfd, "CLONE_DEVICE", str(tmp_path / "tun"))
    with pytest.raises(TunError, match=r"^no .*/tun: load the module with `modprobe tun`, or give"):
        tunfd.open_tun("tun1")


def test_name_too_long() -> None:
    with pytest.raises(TunError, match="longer than 15 bytes: choose a shorter"):
        tunfd.open_tun("sixteen-letters-")


@pytest.mark.system
def test_not_permitted() -> None:
    # In a user namespace that does not own the network: root, but without rights over it.
    program = (
        "import ctypes\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "from tunmesh_tun_linux.tunfd import open_tun\n"
        "from tunmesh.errors import TunError\n"
        "try: open_tun('tun1')\n"
        "except TunError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "no permission to create device tun1: it needs CAP_NET_ADMIN" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.system
def test_opens_with_the_offloads_of_this_kernel(fresh_netns: None) -> None:
    fd, _, offloads, _ = tunfd.open_tun("tun1")
    assert {"csum", "tso4", "tso6"} <= offloads
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.system
def test_name_taken(fresh_netns: None) -> None:
    fd, *_ = tunfd.open_tun("tun1")
    with pytest.raises(TunError, match="device tun1 exists already: stop what uses it, remove it"):
        tunfd.open_tun("tun1")
    with pytest.raises(TunError, match=r"device lo exists already|the kernel refuses device lo"):
        tunfd.open_tun("lo")
    os.close(fd)


@pytest.mark.system
@pytest.mark.parametrize("name", [".", "a/b"])
def test_name_that_the_kernel_refuses(fresh_netns: None, name: str) -> None:
    with pytest.raises(TunError, match="the kernel refuses device"):
        tunfd.open_tun(name)


@pytest.mark.system
def test_a_refused_device_leaves_no_descriptor(fresh_netns: None) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(TunError):
        tunfd.open_tun("a/b")
    assert set(Path("/proc/self/fd").iterdir()) == before
