"""Network namespaces, the wires between them, and the processes that run in them.

Three shapes: `wire` joins two nodes by a veth pair, `relayed` puts a relay that delays and loses
datagrams between them, `star` joins any number by a bridge. All of it is gone when the testbed
closes. Needs the right to make namespaces: root's, or that of a user namespace's root.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks.processes import (
    KIB,
    BenchmarkError,
    cpu_seconds,
    memory_kib,
    run,
    with_descendants,
)

PREFIX = "tunmesh-bench"
UNDERLAY_MTU = 1500
READY_TIMEOUT = 20.0  # how long a tunnel may take to answer
STOP_TIMEOUT = 3.0  # how long a process may take to end after SIGTERM
POLL_INTERVAL = 0.005


def inside(namespace: str, *command: str | Path | int) -> list[str]:
    """Return a command that runs `command` in a namespace, under the same process id."""
    guard = ["setpriv", "--pdeathsig=KILL"]  # nothing outlives the benchmark
    return [*guard, "nsenter", f"--net=/run/netns/{namespace}", *map(str, command)]


@dataclass
class Node:
    """One end of a tunnel: a namespace, two addresses, and what runs there.

    Attributes:
        number: Counts from 1.
        namespace: Name of its network namespace.
        device: Its device on the underlay.
        underlay: Its address on the underlay.
        overlay: Its address inside the tunnel.
        directory: Scratch space for keys, configuration and logs.
        reach: Where the other nodes' datagrams must be sent to reach this one, by their number;
            its underlay address unless something stands between.
    """

    number: int
    namespace: str
    device: str
    underlay: str
    overlay: str
    directory: Path
    reach: dict[int, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def address_for(self, other: Node) -> str:
        """Return the address at which `other` reaches this node over the underlay."""
        return self.reach.get(other.number, self.underlay)

    def ip(self, *arguments: str | int) -> str:
        """Run `ip` on this namespace."""
        return run(["ip", "-n", self.namespace, *map(str, arguments)])

    def inside(self, *command: str | Path | int) -> list[str]:
        """Return a command that runs `command` here."""
        return inside(self.namespace, *command)

    def run(self, *command: str | Path | int) -> str:
        """Run a short command here to its end."""
        return run(self.inside(*command))

    def popen(
        self, *command: str | Path | int, stdout: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start a program here that the caller ends; it counts as load, not as the tunnel."""
        return subprocess.Popen(
            self.inside(*command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            bufsize=0,  # whoever reads lines also waits for the descriptor
        )

    def start(self, *command: str | Path | int) -> None:
        """Start a process of the tunnel: logged, accounted for, and ended by the testbed."""
        with (self.directory / f"process{len(self.processes)}.log").open("wb") as log:
            self.processes.append(self.popen(*command, stdout=log))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for `condition`, as long as all processes of this node live."""
        deadline = time.monotonic() + READY_TIMEOUT
        while not condition():
            if any(process.poll() is not None for process in self.processes):
                raise BenchmarkError(f"a process ended before its {what}: {self.log()}")
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no {what} in {READY_TIMEOUT:.0f} s: {self.log()}")
            time.sleep(POLL_INTERVAL)

    def wait_for_device(self, name: str) -> None:
        """Wait until the newest process has made the network device `name`."""
        devices = Path(f"/proc/{self.processes[-1].pid}/net/dev")

        def exists() -> bool:
            with contextlib.suppress(OSError):  # read while the process ends
                return f"{name}:" in devices.read_text()
            return False

        self.wait_until(exists, f"device {name}")

    def log(self) -> str:
        """Return the last line that each of this node's processes wrote."""
        logs = [path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log"))]
        return " | ".join(text.strip().splitlines()[-1] for text in logs if text.strip())

    def pids(self) -> list[int]:
        """Return every living process of the tunnel's node."""
        return [pid for process in self.processes for pid in with_descendants(process.pid)]

    def cpu_seconds(self) -> float:
        """Return the processor time that this node's processes have taken."""
        return sum(map(cpu_seconds, self.pids()))

    def peak_mib(self) -> float:
        """Return the peak of this node's memory."""
        return sum(memory_kib(pid, "VmHWM") for pid in self.pids()) / KIB

    def anonymous_kib(self) -> int:
        """Return the memory that this node's processes hold for themselves at the moment."""
        return sum(memory_kib(pid, "RssAnon") for pid in self.pids())


class Testbed:
    """Some nodes, and the wires between them."""

    def __init__(self) -> None:
        """Make an empty testbed; `close` removes it, at the latest when the program ends."""
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
        self.nodes: list[Node] = []
        self._namespaces: list[str] = []
        self._helpers: list[subprocess.Popen[bytes]] = []
        atexit.register(self.close)

    def add_node(self, underlay: str) -> Node:
        """Add a node whose device is not wired to anything yet."""
        number = len(self.nodes) + 1
        directory = self.directory / f"node{number}"
        directory.mkdir()
        node = Node(
            number=number,
            namespace=self.add_namespace(f"{number}"),
            device="underlay",
            underlay=underlay,
            overlay=f"10.98.0.{number}",
            directory=directory,
        )
        self.nodes.append(node)
        return node

    def add_namespace(self, suffix: str) -> str:
        """Make a network namespace with its loopback device up."""
        name = f"{PREFIX}-{os.getpid()}-{suffix}"
        run(["ip", "netns", "add", name])
        self._namespaces.append(name)
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        return name

    def join(self, node: Node, namespace: str, device: str) -> None:
        """Lay a wire from a node to `device` in another namespace; both ends are up."""
        far_end = ("peer", "name", device, "netns", namespace)
        run(["ip", "-n", node.namespace, "link", "add", node.device, "type", "veth", *far_end])
        for place, end in ((node.namespace, node.device), (namespace, device)):
            run(["ip", "-n", place, "link", "set", end, "mtu", str(UNDERLAY_MTU), "up"])
        node.ip("address", "add", f"{node.underlay}/24", "dev", node.device)

    def start_relay(self, namespace: str, command: Sequence[str | Path]) -> None:
        """Start a helper of the underlay in a namespace, and see that it stays."""
        relay = subprocess.Popen(inside(namespace, *command), stdin=subprocess.DEVNULL)
        self._helpers.append(relay)
        time.sleep(0.1)
        if relay.poll() is not None:
            raise BenchmarkError("the relay did not start")

    def cpu_seconds(self) -> float:
        """Return the processor time of all nodes."""
        return sum(node.cpu_seconds() for node in self.nodes)

    def check_alive(self) -> None:
        """Raise if a process of a node has ended."""
        for node in self.nodes:
            if any(process.poll() is not None for process in node.processes):
                raise BenchmarkError(f"node {node.number} ended by itself: {node.log()}")

    def close(self) -> None:
        """End every process and remove every namespace."""
        atexit.unregister(self.close)
        started = [process for node in self.nodes for process in node.processes] + self._helpers
        for process in started:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for namespace in self._namespaces:
            with contextlib.suppress(BenchmarkError):  # the others must go, too
                run(["ip", "netns", "delete", namespace])
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def _testbed() -> Iterator[Testbed]:
    bed = Testbed()
    try:
        yield bed
    finally:
        bed.close()


@contextlib.contextmanager
def wire() -> Iterator[Testbed]:
    """Give two nodes on one veth pair."""
    with _testbed() as bed:
        first, second = bed.add_node("10.97.0.1"), bed.add_node("10.97.0.2")
        bed.join(first, second.namespace, second.device)
        second.ip("address", "add", f"{second.underlay}/24", "dev", second.device)
        yield bed


@contextlib.contextmanager
def star(count: int) -> Iterator[Testbed]:
    """Give `count` nodes on one bridge."""
    with _testbed() as bed:
        bridge = bed.add_namespace("bridge")
        run(["ip", "-n", bridge, "link", "add", "bridge", "type", "bridge"])
        run(["ip", "-n", bridge, "link", "set", "bridge", "up"])
        for number in range(1, count + 1):
            node = bed.add_node(f"10.97.0.{number}")
            bed.join(node, bridge, f"port{number}")
            run(["ip", "-n", bridge, "link", "set", f"port{number}", "master", "bridge"])
        yield bed


@contextlib.contextmanager
def relayed(
    relay: Path, port: int, *, delay_ms: float, loss: float, seed: int
) -> Iterator[Testbed]:
    """Give two nodes that reach each other only through a relay, at one UDP port.

    Args:
        relay: The relay's program.
        port: The UDP port of both nodes.
        delay_ms: How long each datagram takes, one way.
        loss: The probability that a datagram is lost.
        seed: Where the relay's random numbers begin.
    """
    with _testbed() as bed:
        middle = bed.add_namespace("relay")
        first, second = bed.add_node("10.97.1.1"), bed.add_node("10.97.2.1")
        near = {first.number: "10.97.1.254", second.number: "10.97.2.254"}
        for node in bed.nodes:
            bed.join(node, middle, f"side{node.number}")
            address = f"{near[node.number]}/24"
            run(["ip", "-n", middle, "address", "add", address, "dev", f"side{node.number}"])
        first.reach[second.number] = near[second.number]
        second.reach[first.number] = near[first.number]
        ends = [word for node in bed.nodes for word in (near[node.number], node.underlay)]
        bed.start_relay(middle, [relay, *ends, str(port), str(delay_ms), str(loss), str(seed)])
        yield bed
