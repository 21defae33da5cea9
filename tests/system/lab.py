"""A network laboratory: hosts in network namespaces, joined by a bridge, with faults on demand.

Namespaces have no names: a sleeping process holds each, and dies with the tests. So nothing is
left behind, whatever happens, and a user namespace is as good as root.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


class LabError(Exception):
    """The laboratory itself does not work: no verdict on what is tested."""


def eventually(condition: Callable[[], T], timeout: float, what: str) -> T:
    """Wait until a condition holds, and return what it returned.

    Raises:
        AssertionError: It did not hold in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what} (is: {result!r})"
        time.sleep(0.01)


class Namespace:
    """A network namespace, held by a process of its own."""

    def __init__(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        command = (*_DIE_WITH_PARENT, "unshare", "--net", "--", "sleep", "infinity")
        self._holder = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.pid = self._holder.pid
        self.path = f"/proc/{self.pid}/ns/net"
        while self._holder.poll() is None:
            if Path(self.path).readlink() != own:
                self.ip("link", "set", "lo", "up")
                return
            time.sleep(0.001)
        stderr = self._holder.stderr.read().decode() if self._holder.stderr else ""
        self.close()
        raise LabError(f"cannot make a network namespace: {stderr.strip()}")

    def close(self) -> None:
        """End the processes in it, and with them the namespace."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stderr:
            self._holder.stderr.close()

    def command(self, *command: object) -> list[str]:
        """The command line that runs a command in here; its process is the command's own."""
        return ["nsenter", f"--net={self.path}", "--", *_DIE_WITH_PARENT, *map(str, command)]

    def run(self, *command: object, stdin: str | None = None, timeout: float = 30.0) -> str:
        """Run a short command in here and return what it prints.

        Raises:
            LabError: It failed.
        """
        done = subprocess.run(
            self.command(*command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}{done.stdout}")
        return done.stdout

    def popen(
        self,
        *command: object,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        stderr: int | IO[bytes] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command in here, out of reach of the terminal's Ctrl-C."""
        return subprocess.Popen(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            start_new_session=True,
        )

    def ip(self, *arguments: object) -> Any:
        """Run ``ip``; what it prints is parsed if it was asked for JSON."""
        text = self.run("ip", *arguments)
        return json.loads(text or "[]") if "-j" in arguments else text

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function in here, in a thread of its own: a thread may change its namespace."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with open(self.path, "rb") as namespace:  # noqa: PTH123  # not a Path
                    if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")  # noqa: TRY301  # to the caller
                results.append(function())
            except BaseException as exc:  # noqa: BLE001  # raised in the caller's thread
                errors.append(exc)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from any thread."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def sysctl(self, name: str, value: str) -> None:
        """Set a kernel parameter of this namespace."""
        self.inside(lambda: Path("/proc/sys", name).write_text(value))

    def processes(self) -> list[int]:
        """The processes in this namespace, its holder apart."""
        found = []
        own = Path(self.path).readlink()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                with contextlib.suppress(OSError):  # it ended, or is not ours
                    if (entry / "ns/net").readlink() == own:
                        found.append(int(entry.name))
        return found

    def sockets(self) -> list[str]:
        """The sockets of this namespace that are not of the kernel, one line each."""
        lines = []
        for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "unix", "packet"):
            text = Path(f"/proc/{self.pid}/net/{name}").read_text()
            lines += [f"{name}: {line}" for line in text.splitlines()[1:]]
        return lines


class Host(Namespace):
    """A namespace with one interface, ``eth0``, on the lab's bridge."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        super().__init__()
        self.lab = lab
        self.name = name
        self.number = number
        self.port = f"p{number}"
        self.address4 = f"10.99.0.{number}" if 4 in lab.families else ""
        self.address6 = f"fd99::{number:x}" if 6 in lab.families else ""
        lab.hub.ip(
            *("link", "add", self.port, "mtu", lab.mtu, "type", "veth"),
            *("peer", "name", "eth0", "mtu", lab.mtu, "netns", self.pid),
        )
        lab.hub.ip("link", "set", self.port, "master", "bridge", "up")
        if lab.segmented:
            self.ip("link", "set", "eth0", "gso_max_segs", 1)
        # Link-local addresses that are usable at once, so that nothing changes by itself later.
        self.sysctl("net/ipv6/conf/eth0/accept_dad", "0")
        self.ip("link", "set", "eth0", "up")
        self.set_addresses()

    def set_addresses(self, address4: str | None = None, address6: str | None = None) -> None:
        """Give ``eth0`` its addresses, in place of those it had."""
        self.address4 = self.address4 if address4 is None else address4
        self.address6 = self.address6 if address6 is None else address6
        self.ip("address", "flush", "dev", "eth0", "scope", "global")
        if self.address4:
            self.ip("address", "add", f"{self.address4}/24", "dev", "eth0")
        if self.address6:
            self.ip("address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")

    @property
    def address(self) -> str:
        """The preferred address on the underlay."""
        return self.address4 or self.address6

    def url(self, port: int = 4567) -> str:
        """The endpoint of a node on this host."""
        host = self.address4 or f"[{self.address6}]"
        return f"udp://{host}:{port}"


class Lab:
    """Hosts on one bridge.

    Args:
        names: Of the hosts.
        families: Of the underlay: 4, 6 or both.
        segmented: Whether the hosts cut their packets before they reach the network, so that
            faults meet single datagrams; otherwise a train of datagrams travels as one.
        mtu: Of the underlay.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        families: Sequence[int] = (4, 6),
        segmented: bool = False,
        mtu: int = 1500,
    ) -> None:
        self.families = tuple(families)
        self.segmented = segmented
        self.mtu = mtu
        self.hosts: dict[str, Host] = {}
        self._open = contextlib.ExitStack()
        try:
            self.hub = self._own(Namespace())
            self.hub.ip("link", "add", "bridge", "type", "bridge")
            self.hub.ip("link", "set", "bridge", "up")
            for name in names:
                self.add_host(name)
        except BaseException:
            self.close()
            raise

    def _own(self, namespace: Namespace) -> Namespace:
        self._open.callback(namespace.close)
        return namespace

    def close(self) -> None:
        """Take everything down."""
        self._open.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add_host(self, name: str) -> Host:
        """One more host."""
        host = Host(self, name, len(self.hosts) + 1)
        self._own(host)
        self.hosts[name] = host
        return host

    def faults(self, rule: str, *, hosts: Sequence[str] = ()) -> None:
        """Apply an nft rule to every packet towards the hosts named, all unless told.

        It takes the place of what was in force; an empty rule heals the network.
        """
        lines = ["add table netdev faults", "delete table netdev faults"]
        if rule:
            lines += ["table netdev faults {"]
            for name in hosts or self.hosts:
                port = self.hosts[name].port
                lines += [
                    f"chain to_{port} {{",
                    f'type filter hook egress device "{port}" priority 0; policy accept;',
                    rule,
                    "}",
                ]
            lines += ["}"]
        self.hub.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")

    def loss(self, percent: int) -> None:
        """Lose UDP datagrams at random: each path passes one such place in each direction."""
        self.faults(f"meta l4proto udp numgen random mod 100 < {percent} drop" if percent else "")

    @contextlib.contextmanager
    def capture(self, host: str) -> Iterator[list[bytes]]:
        """Collect the Ethernet frames of one host, both directions, while the block runs."""
        frames: list[bytes] = []
        stop = threading.Event()
        with self.hosts[host].socket(socket.AF_PACKET, socket.SOCK_RAW) as sniffer:
            sniffer.bind(("eth0", 0x0003))  # ETH_P_ALL
            sniffer.settimeout(0.05)

            def collect() -> None:
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        frames.append(sniffer.recv(65536 * 2))

            thread = threading.Thread(target=collect)
            thread.start()
            try:
                yield frames
            finally:
                stop.set()
                thread.join()
