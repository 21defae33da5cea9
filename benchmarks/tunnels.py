"""The tunnels under comparison. To add one, write a subclass of `Tunnel` and name it in `TUNNELS`.

Programs are looked up on PATH. Other builds of the same program join the comparison when an
environment variable names them: `WIREGUARD_GO_BIN`, and `NEBULA_BIN` with `NEBULA_CERT_BIN`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import BenchmarkError, run
from benchmarks.testbed import Node

PROJECT = Path(__file__).resolve().parent.parent

OVERLAY = "10.98.0.0/16"
INNER_MTU = 1420
BUFFER_BYTES = 10 << 20

OTHER_WIREGUARD = "WIREGUARD_GO_BIN"
OTHER_NEBULA = "NEBULA_BIN"
OTHER_NEBULA_CERT = "NEBULA_CERT_BIN"


def find(program: str, variable: str | None = None) -> str | None:
    """Return the path of a program on PATH, or, with a variable, of the one that it names."""
    wanted = program if variable is None else os.environ.get(variable)
    return shutil.which(wanted) if wanted else None


class Tunnel(ABC):
    """One program, in one configuration.

    Attributes:
        name: What it is called in tables and options.
        configuration: What a reader must know to judge the comparison.
        port: The UDP port that every node of it listens on.
        everywhere: Whether it is measured on every underlay, not only on the plain wire.
    """

    name: str
    configuration: str
    port: int = 0
    everywhere: bool = True

    @abstractmethod
    def missing(self) -> str | None:
        """Return why it cannot be run here, or None when it can."""

    @abstractmethod
    def version(self) -> str:
        """Return the version in one line."""

    @abstractmethod
    def prepare(self, nodes: Sequence[Node]) -> None:
        """Write keys and configuration; this is not timed."""

    @abstractmethod
    def start(self, node: Node, others: Sequence[Node]) -> None:
        """Start one node and return once its device is up; this is timed."""

    def target(self, node: Node) -> str:
        """Return the address at which other nodes reach `node` through the tunnel."""
        return node.overlay


def version_of(program: str | None, flag: str) -> str:
    """Return the first line that a program says about its version, and its Debian package."""
    if program is None:
        return "absent"
    done = subprocess.run([program, flag], capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    words = lines[0].strip() if lines else "unknown"
    with contextlib.suppress(BenchmarkError):  # not from a package, or not Debian
        package = run(["dpkg-query", "--search", program]).split(":")[0]
        words += f" ({run(['dpkg-query', '-W', '-f', '${Package} ${Version}', package])})"
    return words


class Veth(Tunnel):
    """No tunnel at all: what the wire itself does."""

    name = "veth"
    configuration = "the bare veth pair, default offloads, MTU 1500"
    everywhere = False

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"Linux {os.uname().release}"

    def prepare(self, nodes: Sequence[Node]) -> None:
        pass

    def start(self, node: Node, others: Sequence[Node]) -> None:
        pass

    def target(self, node: Node) -> str:
        return node.underlay


class WireGuardGo(Tunnel):
    """WireGuard's implementation in Go."""

    configuration = f"defaults, ChaCha20-Poly1305, MTU {INNER_MTU}"
    port = 51820

    def __init__(self, name: str = "wireguard-go", variable: str | None = None) -> None:
        """Take Debian's program, or the one that an environment variable names."""
        self.name = name
        self._program = find("wireguard-go", variable)
        self._variable = variable
        self._keys: dict[int, tuple[str, str]] = {}

    def missing(self) -> str | None:
        if self._program is None:
            return f"${self._variable} names no program" if self._variable else "no wireguard-go"
        return None if find("wg") else "no wg (wireguard-tools)"

    def version(self) -> str:
        return version_of(self._program, "--version")

    def prepare(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            private = run(["wg", "genkey"]).strip()
            self._keys[node.number] = private, run(["wg", "pubkey"], stdin=private).strip()

    def start(self, node: Node, others: Sequence[Node]) -> None:
        lines = [
            "[Interface]",
            f"PrivateKey = {self._keys[node.number][0]}",
            f"ListenPort = {self.port}",
        ]
        for other in others:
            lines += [
                "[Peer]",
                f"PublicKey = {self._keys[other.number][1]}",
                f"AllowedIPs = {other.overlay}/32",
                f"Endpoint = {other.address_for(node)}:{self.port}",
            ]
        configuration = node.directory / "wireguard.conf"
        configuration.write_text("\n".join(lines) + "\n")

        # The control socket is named for the device and shared by all network namespaces.
        device = f"bw{os.getpid() % 10**7}n{node.number}"
        control = Path("/run/wireguard") / f"{device}.sock"
        node.start(str(self._program), "-f", device)
        node.wait_for_device(device)
        node.wait_until(control.exists, "control socket")
        node.run("wg", "setconf", device, configuration)
        node.ip("address", "add", f"{node.overlay}/16", "dev", device)
        node.ip("link", "set", device, "mtu", INNER_MTU, "up")


class Nebula(Tunnel):
    """Nebula, with fixed addresses instead of a lighthouse."""

    configuration = f"AES-256-GCM (its default), 10 MiB buffers, MTU {INNER_MTU}"
    port = 4242

    def __init__(self, name: str = "nebula", variable: str | None = None) -> None:
        """Take Debian's program, or the one that an environment variable names."""
        self.name = name
        self._variable = variable
        self._program = find("nebula", variable)
        self._cert = find("nebula-cert", OTHER_NEBULA_CERT if variable else None)

    def missing(self) -> str | None:
        if self._program is None:
            return f"${self._variable} names no program" if self._variable else "no nebula"
        return None if self._cert else f"no nebula-cert (${OTHER_NEBULA_CERT})"

    def version(self) -> str:
        return version_of(self._program, "-version")

    def prepare(self, nodes: Sequence[Node]) -> None:
        authority = nodes[0].directory.parent / "authority"
        authority.mkdir()
        run([str(self._cert), "ca", "-name", "benchmark"], cwd=authority)
        for node in nodes:
            run(
                [
                    *(str(self._cert), "sign", "-name", f"node{node.number}"),
                    *("-ca-crt", authority / "ca.crt", "-ca-key", authority / "ca.key"),
                    *("-ip", f"{node.overlay}/16"),
                    *("-out-crt", node.directory / "node.crt"),
                    *("-out-key", node.directory / "node.key"),
                ]
            )

    def start(self, node: Node, others: Sequence[Node]) -> None:
        anything = [{"port": "any", "proto": "any", "host": "any"}]
        configuration = {
            "pki": {
                "ca": str(node.directory.parent / "authority" / "ca.crt"),
                "cert": str(node.directory / "node.crt"),
                "key": str(node.directory / "node.key"),
            },
            "static_host_map": {
                other.overlay: [f"{other.address_for(node)}:{self.port}"] for other in others
            },
            "lighthouse": {"am_lighthouse": False, "hosts": []},
            "listen": {
                "host": "0.0.0.0",  # noqa: S104  # in a namespace of its own
                "port": self.port,
                "read_buffer": BUFFER_BYTES,
                "write_buffer": BUFFER_BYTES,
            },
            "punchy": {"punch": False},
            "cipher": "aes",
            "tun": {"dev": "bench", "mtu": INNER_MTU},
            "logging": {"level": "error", "format": "text"},
            "firewall": {"outbound": anything, "inbound": anything},
        }
        path = node.directory / "nebula.yml"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        node.start(str(self._program), "-config", path)
        node.wait_for_device("bench")


class OpenVpn(Tunnel):
    """OpenVPN between two nodes, over UDP."""

    name = "openvpn"
    configuration = f"TLS point to point, AES-256-GCM, no DCO, --fast-io, MTU {INNER_MTU}"
    port = 1194
    everywhere = False  # the comparison for tunmesh over HTTPS, which has no relay to cross

    def __init__(self) -> None:
        """Take Debian's program."""
        self._program = find("openvpn")
        self._fingerprints: dict[int, str] = {}

    def missing(self) -> str | None:
        if self._program is None:
            return "no openvpn"
        return None if find("openssl") else "no openssl, to make certificates"

    def version(self) -> str:
        return version_of(self._program, "--version")

    def prepare(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            certificate = node.directory / "certificate"
            run(
                [
                    *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=benchmark"),
                    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                    *("-keyout", node.directory / "key", "-out", certificate),
                ]
            )
            shown = run(
                ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"]
            )
            self._fingerprints[node.number] = shown.split("=")[1].strip()

    def start(self, node: Node, others: Sequence[Node]) -> None:
        (other,) = others
        server = node.number < other.number
        node.start(
            *(str(self._program), "--dev", "bench", "--dev-type", "tun", "--proto", "udp4"),
            *("--local", node.address_for(other), "--port", self.port),
            *("--remote", other.address_for(node), self.port),
            *(["--tls-server", "--dh", "none"] if server else ["--tls-client"]),
            *("--cert", node.directory / "certificate", "--key", node.directory / "key"),
            *("--peer-fingerprint", self._fingerprints[other.number]),
            *("--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM", "--disable-dco"),
            *("--allow-compression", "no", "--fast-io"),
            *("--sndbuf", 1 << 20, "--rcvbuf", 1 << 20, "--txqueuelen", 1000),
            *("--tun-mtu", INNER_MTU, "--ifconfig", node.overlay, other.overlay, "--verb", 1),
        )
        node.wait_for_device("bench")


class Tunmesh(Tunnel):
    """This project, over UDP."""

    name = "tunmesh"
    configuration = "defaults, UDP alone"
    port = 4567
    transport = "udp"
    more_plugins: tuple[str, ...] = ()

    def __init__(self) -> None:
        """Take the program that is installed beside the Python that runs this."""
        self._program = find(str(Path(sys.executable).with_name("tunmesh")))

    def missing(self) -> str | None:
        if self._program is None:
            return "no tunmesh beside this Python"
        try:
            run([self._program, "--version"])
        except BenchmarkError as error:
            return str(error).splitlines()[-1]
        return None

    def version(self) -> str:
        return version_of(self._program, "--version")

    def prepare(self, nodes: Sequence[Node]) -> None:
        # As an installation does; a work tree may hold sources only.
        transport = f"plugins/transport_{self.transport}/src"
        for folder in ("core/src", "plugins/tun_linux/src", transport):
            run([sys.executable, "-m", "compileall", "-q", str(PROJECT / folder)])
        secret = secrets.token_urlsafe(32)
        for node in nodes:
            path = node.directory / "mesh.secret"
            path.touch(mode=0o600)
            path.write_text(secret)

    def start(self, node: Node, others: Sequence[Node]) -> None:
        # Everybody bootstraps from the first other node; a mesh finds the rest by itself.
        url = f"{self.transport}://{others[0].address_for(node)}:{self.port}"
        path = node.directory / "tunmesh.toml"
        path.write_text(
            f"""\
[mesh]
networks = ["{OVERLAY}"]
secret_file = "mesh.secret"
[node]
name = "node{node.number}"
addresses = ["{node.overlay}/16"]
[plugins]
enabled = {json.dumps(["tun_linux", self.transport, *self.more_plugins])}
[plugins.tun_linux]
device = "bench"
[plugins.{self.transport}]
listen = ["0.0.0.0:{self.port}"]
[bootstrap.first]
urls = ["{url}"]
[admin]
socket = "{node.directory}/admin.sock"
"""
        )
        node.start(str(self._program), "run", "-c", path)
        node.wait_for_device("bench")


class TunmeshHttps(Tunmesh):
    """This project, over HTTPS: for where UDP does not pass."""

    name = "tunmesh-https"
    configuration = "defaults, HTTPS alone (TLS 1.3 over TCP, a self-made certificate)"
    port = 4443
    transport = "https"
    everywhere = False


TUNNELS: tuple[Tunnel, ...] = (
    Veth(),
    WireGuardGo(),
    *([WireGuardGo("wireguard-go-env", OTHER_WIREGUARD)] if OTHER_WIREGUARD in os.environ else []),
    Nebula(),
    *([Nebula("nebula-env", OTHER_NEBULA)] if OTHER_NEBULA in os.environ else []),
    OpenVpn(),
    Tunmesh(),
    TunmeshHttps(),
)
