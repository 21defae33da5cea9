"""The nodes of the demo: ordinary ``tunmesh run`` processes with configurations of their own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tunmesh.admin.client import ask
from tunmesh.errors import AdminError
from tunmesh.plugin import GROUP
from tunmesh_tun_linux.demo import signals
from tunmesh_tun_linux.demo.namespaces import DemoError, enter_for_good, node_namespace

DEVICE = "tun1"
MESH_BROADCAST = "10.77.255.255"
#: Plugins of the built-in default of ``plugins.enabled``; those that are installed are used.
_DEFAULT_PLUGINS = ("tun_linux", "ifaddr", "udp", "https", "igmp")
_STOP_TIMEOUT = 3.0
_LOG_LINES = 5

_CONFIG = """\
[mesh]
networks = ["10.77.0.0/16", "fd77::/48"]
secret_file = "mesh.secret"

[node]
name = {name}
addresses = ["{ipv4}/24", "{ipv6}/64"]

[plugins]
enabled = {plugins}

[plugins.tun_linux]
device = "{device}"

[bootstrap.demo]
urls = {urls}

[admin]
socket = {socket}
"""


def default_plugins() -> list[str]:
    """What is installed of the plugins that a node uses by default."""
    installed = {entry.name for entry in entry_points(group=GROUP)}
    return [name for name in _DEFAULT_PLUGINS if name in installed]


def write_secret(directory: Path) -> None:
    """Make the secret that all nodes share."""
    path = directory / "mesh.secret"
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(32))


class Node:
    """One node.

    Args:
        number: Counted from 1.
        directory: Where the files of all nodes are.
    """

    def __init__(self, number: int, directory: Path) -> None:
        self.name = f"node-{number}"
        self.namespace = node_namespace(number)
        self.ipv4 = f"10.77.0.{number}"
        self.local_broadcast = "10.77.0.255"
        self.ipv6 = f"fd77::{number:x}"
        self.socket = directory / f"{self.name}.sock"
        self._config = directory / f"{self.name}.toml"
        self._log = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, plugins: Sequence[str], bootstrap: Sequence[str]) -> None:
        """Start the process.

        Args:
            plugins: Plugins to enable.
            bootstrap: Endpoints of nodes to join; none for the first node.
        """
        config = _CONFIG.format(
            name=json.dumps(self.name),
            ipv4=self.ipv4,
            ipv6=self.ipv6,
            plugins=json.dumps(list(plugins)),
            device=DEVICE,
            urls=json.dumps(list(bootstrap)),
            socket=json.dumps(str(self.socket)),
        )
        self._config.write_text(config)
        # Settings of the caller's own nodes must not leak into these.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TUNMESH_")
        }
        with self._log.open("wb") as log, signals.held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunmesh", "run", "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo alone
                # There is one thread, so nothing can hold a lock while this process forks.
                preexec_fn=partial(enter_for_good, self.namespace, signal.SIGTERM),  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """Of the process; 0 if it was not started."""
        return self._process.pid if self._process is not None else 0

    def status(self) -> dict[str, Any] | None:
        """The node's status document; None as long as it does not answer yet.

        Raises:
            DemoError: The process ended.
        """
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise DemoError(f"{self.name} ended {how}; it wrote last:{self.log_tail()}")
        try:
            status: dict[str, Any] = ask(self.socket, "status", timeout=1.0)
        except AdminError:
            return None
        return status

    def log_tail(self) -> str:
        """The last lines that the node wrote, each indented on a line of its own."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "".join(f"\n    {line}" for line in lines[-_LOG_LINES:] or ["(nothing)"])

    def terminate(self) -> None:
        """Ask the process to stop; `wait` waits for it."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, deadline: float) -> bool:
        """Wait until the process has stopped, and kill it at the deadline.

        Args:
            deadline: On the clock of `time.monotonic`.

        Returns:
            Whether it stopped by itself.
        """
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True


def stop_all(nodes: Sequence[Node]) -> list[str]:
    """Stop all nodes at once.

    Returns:
        Names of those that had to be killed.
    """
    for node in nodes:
        node.terminate()
    deadline = time.monotonic() + _STOP_TIMEOUT
    return [node.name for node in nodes if not node.wait(deadline)]
