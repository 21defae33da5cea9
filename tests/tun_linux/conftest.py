"""Network namespaces for the tests that need real devices."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from pyroute2 import IPRoute

Namespaces = Callable[[], AbstractContextManager[None]]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run asynchronous tests on what `tunmesh run` uses, and on its stand-in.

    Not on trio: its worker threads outlive a test, and stay in the namespace of that test.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def _call(function: str, *arguments: int) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        error = os.strerror(ctypes.get_errno())
        pytest.fail(f"{function}: {error}; run the tests with `make test`, or as root")


@contextmanager
def _restored() -> Iterator[None]:
    """Come back to the namespace of now."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield
    finally:
        _call("setns", before, _CLONE_NEWNET)
        os.close(before)


@pytest.fixture
def fresh_netns() -> Iterator[None]:
    """Be in a namespace of one's own, with nothing but a loopback device."""
    with _restored():
        _call("unshare", _CLONE_NEWNET)
        with IPRoute() as netlink:
            netlink.link("set", index=socket.if_nametoindex("lo"), state="up")
        yield


@pytest.fixture
def new_netns(fresh_netns: None) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Make further namespaces: each call makes one, and returns how to be in it."""
    descriptors: list[int] = []

    def make() -> AbstractContextManager[None]:
        with _restored():
            _call("unshare", _CLONE_NEWNET)
            descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        descriptors.append(descriptor)

        @contextmanager
        def inside() -> Iterator[None]:
            with _restored():
                _call("setns", descriptor, _CLONE_NEWNET)
                yield

        return inside()

    yield make
    for descriptor in descriptors:
        os.close(descriptor)
