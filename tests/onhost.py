"""Hosts to test on, each the kernel's view of one thread: no second process, nothing mocked."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

import pytest
from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_CALL = 0  # offsets in struct seccomp_data
SECCOMP_ARGUMENTS = 16
BPF_LOAD_WORD = 0x20
BPF_JUMP_EQUAL = 0x15
BPF_RETURN = 0x06

SYSTEM_CALLS = {"x86_64": {"socket": 41, "setsockopt": 54, "getsockopt": 55}}
GENERIC_CALLS = {"socket": 198, "setsockopt": 208, "getsockopt": 209}


class Refusal(NamedTuple):
    """A system call that fails.

    Attributes:
        call: Its name.
        argument: Which argument decides.
        value: For which value of it the call fails.
        error: The error number.
    """

    call: str
    argument: int
    value: int
    error: int

    def instructions(self) -> list[tuple[int, int, int, int]]:
        number = SYSTEM_CALLS.get(platform.machine(), GENERIC_CALLS)[self.call]
        return [
            (BPF_LOAD_WORD, 0, 0, SECCOMP_CALL),
            (BPF_JUMP_EQUAL, 0, 3, number),
            (BPF_LOAD_WORD, 0, 0, SECCOMP_ARGUMENTS + 8 * self.argument),
            (BPF_JUMP_EQUAL, 0, 1, self.value),
            (BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | self.error),
        ]


class FilterProgram(ctypes.Structure):
    """A ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _libc(function: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*args):
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def _refuse(refusals: list[Refusal]) -> None:
    program = [instruction for refusal in refusals for instruction in refusal.instructions()]
    program.append((BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    _libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    fprog = FilterProgram(len(program), code)
    _libc("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog))


class Host:
    """A host with ``lo`` alone, up.

    Attributes:
        ipr: Configures it; only while no event loop runs.
    """

    def __init__(self, ipr: IPRoute) -> None:
        self.ipr = ipr

    def configure(self, command: str, address: str) -> None:
        """Add or delete an address of ``lo``, beside a running event loop."""

        def body() -> None:
            with IPRoute() as ipr:
                ipr.addr(command, index=1, address=address, prefixlen=24)

        thread = threading.Thread(target=body)  # in the namespace of its parent
        thread.start()
        thread.join()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a namespace, so that it is run where one can be had."""
    for item in items:
        if isinstance(item, pytest.Function) and "on_host" in item.fixturenames:
            item.add_marker(pytest.mark.system)


OnHost = Callable[..., None]


@pytest.fixture
def on_host() -> OnHost:
    """Run a function on a `Host` of its own, whose kernel refuses what is given after it.

    The host's namespace belongs to a thread and to the descriptors that it opened, and goes with
    them; root or a user namespace is needed.
    """

    def run(test: Callable[[Host], None], *refusals: tuple[str, int, int, int]) -> None:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                _libc("unshare", CLONE_NEWNET)
                with IPRoute() as ipr:
                    ipr.link("set", index=1, state="up")
                    if refusals:
                        _refuse([Refusal(*refusal) for refusal in refusals])
                    test(Host(ipr))
            except BaseException as exc:  # noqa: BLE001 - raised again in the test's own thread
                errors.append(exc)

        thread = threading.Thread(target=body, name="host")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return run
