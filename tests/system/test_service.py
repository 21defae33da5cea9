"""What a service manager would be told by a node on a real device, without privileges."""

from __future__ import annotations

import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import PATIENCE
from tests.system.test_privileges import USER, expect_no_privileges

PERIOD = 0.5 * PATIENCE
#: A plugin that keeps the event loop busy for two periods when a peer comes up.
BLOCKER = f"""
import time
from tunmesh.plugin import hookimpl

@hookimpl
def tunmesh_peer_up(peer):
    time.sleep({2 * PERIOD})
"""


@pytest.fixture
def blocker(tmp_path: Path) -> Path:
    """A folder with that plugin in it."""
    info = tmp_path / "blocker-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tunmesh.plugins.v1]\nblocker = blocker\n")
    (tmp_path / "blocker.py").write_text(BLOCKER)
    return tmp_path


class Manager(threading.Thread):
    """Receives what the node tells, with the moments."""

    def __init__(self, address: Path) -> None:
        super().__init__()
        self.heard: list[tuple[float, bytes]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))

    def run(self) -> None:
        with self._socket:
            while not (self.heard and self.heard[-1][1].startswith(b"STOPPING=1")):
                message = self._socket.recv(4096)
                self.heard.append((time.monotonic(), message))

    def gaps(self) -> list[float]:
        """The times between beats."""
        moments = [moment for moment, text in self.heard if text.startswith(b"WATCHDOG=1")]
        return [after - before for before, after in pairwise(moments)]


def test_ready_watchdog_and_a_blocked_loop(meshes: MeshFactory, blocker: Path) -> None:
    mesh = meshes("a", "b")
    mesh.directory.chmod(0o711)
    address = mesh.directory / "notify"
    manager = Manager(address)
    manager.daemon = True
    manager.start()
    seen = mesh.directory / "environment"
    options = {
        "node": {"user": USER},
        "plugins": {
            "enabled": ["tun_linux", "udp", "blocker"],
            "tun_linux": {"up": [f"env > {seen}"]},
        },
    }
    environment = {
        "NOTIFY_SOCKET": str(address),
        "WATCHDOG_USEC": str(round(PERIOD * 1e6)),
        "PYTHONPATH": str(blocker),
    }
    a = mesh.add("a", options=options, env=environment)
    b = mesh.add("b", [mesh.lab["a"].url()])
    a.start()
    eventually(lambda: manager.heard, 10 * PATIENCE, "a message")
    assert manager.heard[0][1] == b"READY=1\nSTATUS=device tun1, 0 peers up"
    assert a.overlay4 in a.host.ip("address", "show", "dev", "tun1")
    expect_no_privileges(a)
    assert "TUNMESH_DEVICE" in seen.read_text()
    assert "NOTIFY_SOCKET" not in seen.read_text()
    assert "WATCHDOG" not in seen.read_text()
    eventually(lambda: len(manager.gaps()) > 5, 10 * PATIENCE, "beats")
    assert max(manager.gaps()) < PERIOD, manager.gaps()
    b.start()
    eventually(lambda: max(manager.gaps()) > 1.5 * PERIOD, 20 * PATIENCE, "a missed beat")
    missed = len(manager.gaps())
    eventually(lambda: len(manager.gaps()) > missed + 2, 10 * PATIENCE, "life goes on")
    a.stop()
    manager.join(5 * PATIENCE)
    assert not manager.is_alive(), "the end was not told"
