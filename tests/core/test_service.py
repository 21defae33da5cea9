"""What the service manager is told, and when it is not."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tunmesh.node.service import ServiceManager

Opened = Callable[[dict[str, str]], ServiceManager]


class Manager:
    """A service manager's side of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def environ(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "PATH": "/bin", **more}

    def messages(self) -> list[list[str]]:
        """What came since it was asked last."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens the node's side, and closes it in the end."""
    with ExitStack() as stack:
        yield lambda environ: stack.enter_context(ServiceManager(environ))


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    made = Manager(path if request.param == "path" else f"@{path}")
    yield made
    made.socket.close()


def nothing() -> list[int]:
    return []


def test_a_life(manager: Manager, opened: Opened) -> None:
    environ = manager.environ(WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    service = opened(environ)
    assert environ == {"PATH": "/bin"}
    assert service.interval == 1.5
    assert service.beat(99.0, nothing, lambda: "starts") == float("inf")
    assert manager.messages() == []
    service.ready(100.0, "no peers")
    assert manager.messages() == [["READY=1", "STATUS=no peers"]]
    assert service.beat(101.4, nothing, lambda: "no peers") == 101.5
    assert manager.messages() == []
    assert service.beat(101.6, nothing, lambda: "no peers") == 103.1
    assert manager.messages() == [["WATCHDOG=1"]]
    service.beat(103.1, nothing, lambda: "2 peers")
    assert manager.messages() == [["WATCHDOG=1", "STATUS=2 peers"]]
    service.reloading()
    ((reloading, moment, _),) = manager.messages()
    assert reloading == "RELOADING=1"
    assert int(moment.removeprefix("MONOTONIC_USEC=")) > 0
    service.ready(104.0, "2 peers")
    assert manager.messages() == [["READY=1", "STATUS=2 peers"]]
    service.stopping()
    assert manager.messages() == [["STOPPING=1", "STATUS=stopping"]]
    assert service.beat(1000.0, nothing, lambda: "2 peers") == float("inf")
    assert manager.messages() == []


def test_descriptors_that_nobody_reads_make_the_watchdog_miss(
    manager: Manager, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    service = opened(manager.environ(WATCHDOG_USEC="2000000"))
    service.ready(0.0, "")
    manager.messages()
    service.beat(1.0, lambda: [7, 5], str)
    assert manager.messages() == []
    assert "readers stuck descriptors=5,7" in caplog.text
    service.beat(2.0, nothing, str)
    assert manager.messages() == [["WATCHDOG=1"]]


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},  # meant for another process
    ],
)
def test_without_a_watchdog_only_the_status_is_told(
    manager: Manager, opened: Opened, watchdog: dict[str, str]
) -> None:
    service = opened(manager.environ(**watchdog))
    assert service.interval == 5.0
    service.ready(0.0, "one")
    manager.messages()
    service.beat(5.0, nothing, lambda: "one")
    assert manager.messages() == []
    service.beat(10.0, nothing, lambda: "two")
    assert manager.messages() == [["STATUS=two"]]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/nowhere/notify"])
def test_without_a_manager_nothing_happens(opened: Opened, address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    service = opened(environ)
    assert environ == {}
    assert service.interval == float("inf")
    service.ready(0.0, "")
    assert service.beat(10.0, nothing, str) == float("inf")
    service.reloading()
    service.stopping()


def test_what_finds_no_room_comes_with_the_next_message(manager: Manager, opened: Opened) -> None:
    service = opened(manager.environ(WATCHDOG_USEC="2000000"))
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with other:
        other.connect(manager.socket.getsockname())
        with suppress(BlockingIOError):
            while True:
                other.send(b"noise")
        service.ready(0.0, "up")
        assert ["READY=1", "STATUS=up"] not in manager.messages()
        service.beat(1.0, nothing, lambda: "up")
        assert manager.messages() == [["READY=1", "STATUS=up"], ["WATCHDOG=1"]]


def test_a_manager_that_starts_anew_is_found_again(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    address = str(tmp_path / "notify")
    first = Manager(address)
    service = opened(first.environ(WATCHDOG_USEC="2000000"))
    service.ready(0.0, "up")
    first.socket.close()
    Path(address).unlink()
    second = Manager(address)
    service.beat(1.0, nothing, lambda: "up")
    assert "service manager not told error=Connection refused" in caplog.text
    service.beat(2.0, nothing, lambda: "up")
    assert second.messages() == [["WATCHDOG=1"], ["WATCHDOG=1"]]
    second.socket.close()
