"""Runs real nodes, ``tunmesh run`` as a process of its own, on the hosts of a laboratory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.icmp import first_replies
from tests.system.lab import Host, Lab, Namespace, eventually
from tunmesh.admin.client import ask
from tunmesh.errors import AdminError

SECRET = "a-secret-for-tests-0123456789abcdefghijkl"
NETWORKS = ("10.42.0.0/16", "fd42::/48")
#: Every limit in time is multiplied by this: 1, but on a machine that is busy with other work.
PATIENCE = float(os.environ.get("TUNMESH_TEST_PATIENCE", "1"))
#: Seconds that a node has to end after SIGTERM.
STOP_LIMIT = 2.0 * PATIENCE
TUNMESH = (sys.executable, "-m", "tunmesh")


def toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Write nested tables as TOML."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    lines = [f"[{prefix}]"] if prefix and plain else []
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in tables.items():
        if isinstance(value, Mapping):
            lines.append(toml(value, f"{prefix}.{key}" if prefix else key))
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A value in TOML: plain ones look as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with other nested tables laid over them."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


class Node:
    """One node and its configuration; may be started many times.

    Args:
        name: Its name.
        host: Where it runs.
        directory: For its files.
        urls: What it knows of the mesh.
        options: Laid over the configuration.
        env: Added to the environment of the node, but not of what starts it.
        program: What to run instead of ``tunmesh``.
        number: Of its overlay addresses; the host's unless told.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        directory: Path,
        urls: Sequence[str] = (),
        *,
        options: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = TUNMESH,
        number: int = 0,
    ) -> None:
        self.host = host
        self.name = name
        self.directory = directory
        self.env = dict(env or {})
        self.program = program
        number = number or host.number
        self.overlay4 = f"10.42.1.{number}"
        self.overlay6 = f"fd42:0:0:1::{number:x}"
        self.socket = directory / "admin.sock"
        self.config = directory / "tunmesh.toml"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        base: dict[str, Any] = {
            "mesh": {"name": "test", "networks": NETWORKS, "secret": SECRET},
            "node": {
                "name": name,
                "addresses": [f"{self.overlay4}/24", f"{self.overlay6}/64"],
            },
            "plugins": {"enabled": ["tun_linux", "udp"], "tun_linux": {"device": "tun1"}},
            "bootstrap": {"seeds": {"urls": list(urls)}},
            "admin": {"socket": str(self.socket)},
        }
        directory.mkdir(mode=0o700)
        self.configure(merged(base, options or {}))

    def configure(self, options: Mapping[str, Any]) -> None:
        """Write the configuration."""
        self.options = options
        self.config.write_text(toml(options))
        self.config.chmod(0o600)

    @property
    def overlay(self) -> tuple[str, str]:
        """The overlay addresses, IPv4 and IPv6."""
        return (self.overlay4, self.overlay6)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> float:
        """Start the process; return the moment."""
        assert not self.running
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = self.host.popen(
                # What is measured is a program whose modules were compiled once, as when installed.
                *("env", "--unset=PYTHONDONTWRITEBYTECODE"),
                *(f"{name}={value}" for name, value in self.env.items()),
                *self.program,
                *("run", "-c", self.config),
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        return began

    def kill(self, number: int = signal.SIGKILL) -> float:
        """Send a signal; return the moment."""
        assert self.process is not None
        self.process.send_signal(number)
        moment = time.monotonic()
        if number == signal.SIGKILL:
            self.process.wait()
        return moment

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Ask it to end, and see it end well and in time; return the seconds it took."""
        began = self.kill(number)
        return self.ended(began)

    def ended(self, began: float) -> float:
        """See it end well and in time; return the seconds that passed since `began`."""
        assert self.process is not None
        try:
            code = self.process.wait(max(0.1, began + STOP_LIMIT - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} runs on {STOP_LIMIT} s after its end") from None
        assert code == 0, f"{self.name} ended with {code}: {self.log_tail()}"
        return time.monotonic() - began

    def status(self) -> Any:
        """The status document, or None if it does not answer (yet)."""
        try:
            return ask(self.socket, "status", 2.0)
        except AdminError:
            return None

    def ready(self) -> bool:
        """Whether it is up so far that it answers; fails if it has ended."""
        assert self.running, f"{self.name} ended: {self.log_tail()}"
        return self.status() is not None

    def peers(self, state: str = "up") -> dict[str, Any]:
        """Its peers in a state, by name; without what tells nodes of one name apart."""
        status = self.status() or {"peers": []}
        return {
            peer["name"].partition("#")[0]: peer
            for peer in status["peers"]
            if peer["state"] == state
        }

    def drops(self) -> dict[str, int]:
        """What it dropped so far, by reason."""
        status = self.status()
        assert status is not None, f"{self.name} does not answer: {self.log_tail()}"
        drops: dict[str, int] = status["drops"]
        return drops

    def log_text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        """The end of what it has logged."""
        return self.log_text()[-2000:]


class Mesh:
    """A laboratory with nodes in it.

    Args:
        lab: Its hosts.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # Not pytest's directory: the path of a Unix socket must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="tunmesh-"))
        self.nodes: dict[str, Node] = {}

    def close(self) -> None:
        """End every process and remove every trace."""
        for node in self.running():
            node.kill()
        self.lab.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def add(self, name: str, urls: Sequence[str] = (), *, host: str = "", **arguments: Any) -> Node:
        """A node on a host, its own unless told, which is made if there is none; not started."""
        place = self.lab.hosts.get(host or name) or self.lab.add_host(host or name)
        self.nodes[name] = Node(name, place, self.directory / name, urls, **arguments)
        return self.nodes[name]

    def running(self) -> list[Node]:
        """The nodes that run."""
        return [node for node in self if node.running]

    def start(self, *names: str) -> float:
        """Start nodes, all unless told, one right after the other; return the last moment."""
        return max(self[name].start() for name in names or self.nodes)

    def expect_reachable(
        self,
        within: float,
        since: float,
        *,
        sources: Sequence[Node] | None = None,
        targets: Sequence[Node] | None = None,
    ) -> None:
        """See every source ping every target, IPv4 and IPv6, in time.

        Args:
            within: Seconds.
            since: The moment from which they count.
            sources: All running nodes unless told.
            targets: Likewise.
        """
        within *= PATIENCE
        running = self.running()
        trips = [
            (source, target, address)
            for source in (running if sources is None else sources)
            for target in (running if targets is None else targets)
            if source is not target
            for address in target.overlay
        ]
        pairs: list[tuple[Namespace, str]] = [(s.host, address) for s, _, address in trips]
        # Waiting longer than allowed makes the message say how late it was.
        replies = first_replies(pairs, within + 10 - (time.monotonic() - since))
        late = [
            f"{source.name}->{address} ({target.name}): "
            + (f"{replies[index] - since:.2f} s" if index in replies else "never")
            for index, (source, target, address) in enumerate(trips)
            if replies.get(index, float("inf")) - since > within
        ]
        for node in running:
            assert node.running, f"{node.name} has ended: {node.log_tail()}"
        assert not late, (
            f"{len(late)} of {len(trips)} not reachable within {within} s: " + ", ".join(late)
        )

    def expect_peers(self, timeout: float = 2.0) -> None:
        """See every running node show every other as ``up``, with exactly one active link."""
        names = {node.name for node in self.running()}
        for node in self.running():
            eventually(
                lambda node=node: set(node.peers()) >= names - {node.name},  # type: ignore[misc]
                timeout,
                f"all peers of {node.name} are up",
            )
            for peer in node.peers().values():
                assert sum(link["active"] for link in peer["links"]) == 1, peer
