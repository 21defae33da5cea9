"""The examples: built, installed beside the wheels of tunmesh, tested, run as a mesh, removed."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.packaging.installation import EXAMPLES, Installation, build
from tests.packaging.nodes import Node, eventually, replies
from tunmesh.packet import checksum

pytestmark = pytest.mark.timeout(240)

PYTEST = ("-q", "--disable-plugin-autoload", "-panyio", "-pno:cacheprovider", "--tb=short")
#: A device without a kernel, which pings.
DEVICE = "hello_tun"


#: What strangers may import, see the import contracts in pyproject.toml.
PUBLIC = {"errors", "interfaces", "offload", "packet", "plugin", "testing", "underlay"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_imports_public_modules_only(name: str) -> None:
    for source in EXAMPLES[name].rglob("*.py"):
        found = re.findall(
            r"^\s*(?:from|import) tunmesh(?:\.(\w+))?[ .]", source.read_text(), re.MULTILINE
        )
        assert {*found} <= PUBLIC, source


@pytest.fixture(scope="module")
def examples(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The environment with all examples installed, and a device."""
    folder = tmp_path_factory.mktemp("examples")
    wheels = [build(project, folder) for project in EXAMPLES.values()]
    device = folder / DEVICE
    options = ("--role", "tun", "--directory", str(device))
    installation.succeed("tunmesh", "plugins", "new", DEVICE, *options)
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    installation.pip("install", *offline, *map(str, wheels), str(device))
    yield installation
    names = [wheel.name.partition("-")[0] for wheel in wheels]
    installation.pip("uninstall", "--yes", *names, "tunmesh-hello-tun")


def test_their_own_tests_pass(examples: Installation) -> None:
    examples.pip("check")
    settings = EXAMPLES["access"] / "pyproject.toml"  # they are alike
    folders = [str(project / "tests") for project in EXAMPLES.values()]
    tested = examples.succeed("python", "-m", "pytest", *PYTEST, "-c", str(settings), *folders)
    assert re.search(r"^\d+ passed", tested, re.MULTILINE), tested


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_is_found_checked_and_has_its_options_shown(examples: Installation, name: str) -> None:
    entry = examples.plugins()[name]
    assert (entry["state"], entry["version"], entry["enabled"]) == ("available", "0.1.0", False)
    assert examples.succeed("tunmesh", "plugins", "check", name).startswith(f"plugin {name} of ")
    shown = examples.succeed("tunmesh", "config", "example", "--plugins", f"tun_linux,{name}")
    assert f"[plugins.{name}]" in shown
    assert list(examples.folder.glob(f"lib/*/site-packages/*_{name}/py.typed"))


class Machine(threading.Thread):
    """A virtual machine that knows ARP and answers pings: while the context lasts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self._socket.close()

    def run(self) -> None:
        own = bytes.fromhex("525400000001")
        asks = bytes.fromhex("0001080006040001") + own + bytes((10, 42, 0, 1)) + bytes(6)
        self._send(bytes(6 * [255]) + own + b"\x08\x06" + asks + bytes((10, 42, 0, 2)))
        with self._socket.makefile("rb") as stream:
            while length := stream.read(4):
                frame = bytearray(stream.read(int.from_bytes(length, "big")))
                frame[:6], frame[6:12] = frame[6:12], own
                if frame[12:14] == b"\x08\0" and frame[23] == 1 and frame[34] == 8:
                    frame[26:30], frame[30:34] = frame[30:34], frame[26:30]
                    frame[34] = 0
                    frame[36:38] = bytes(2)
                    frame[36:38] = checksum(frame[34:]).to_bytes(2, "big")
                    self._send(bytes(frame))

    def _send(self, frame: bytes) -> None:
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)


@contextmanager
def leases(examples: Installation) -> Iterator[str]:
    """The URL of a running lease server."""
    pools = ("--pool", "10.42.0.0/24", "--pool", "fd42::/64")
    python = str(examples.folder / "bin" / "python")
    with subprocess.Popen(
        [python, "-m", "tunmesh_address_lease.server", *pools, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=examples.environ,
        cwd=examples.folder,
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def test_a_mesh_of_all_examples(examples: Installation, tmp_path: Path) -> None:
    examples.environ["TUNMESH_SECRET"] = examples.succeed("tunmesh", "secret", "generate").strip()
    plugins = {*EXAMPLES, DEVICE} - {"qemu"}
    with leases(examples) as url:
        everything = {"unix": {"listen": "n.sock"}, "tcp": {"listen": "127.0.0.1:0"}}
        options = {**everything, "lease": {"url": url}}
        machine = {"socket": "vm.sock"}
        allowing = {**options, "access": {"default": "allow"}, "qemu": machine}
        one = Node(1, tmp_path, EXAMPLES, allowing)
        with one.running(examples):
            eventually(lambda: len(one.status()["node"]["endpoints"]) == 2)
            urls = one.status()["node"]["endpoints"]
            pings = {"ping": ["10.42.0.1", "fd42::1"], "interval": "100ms"}
            rule = {"action": "allow", "destination": ["node-1", "10.42.0.0/24"]}
            deny = {"action": "deny", "destination": ["fd42::/48"]}
            access = {"rules": [deny, {**rule, "protocol": "icmp"}]}
            two = Node(2, tmp_path, plugins, {**options, DEVICE: pings, "access": access}, *urls)
            with two.running(examples), Machine(one.directory / "vm.sock"):
                eventually(lambda: replies(two) == {"10.42.0.1"})
                eventually(lambda: two.status()["drops"].get("denied", 0) > 2)
                eventually(lambda: len(_links(two)) == 2)
                status = two.status()
    assert {entry["name"]: entry["state"] for entry in status["plugins"]} == dict.fromkeys(
        plugins, "active"
    )
    assert {"10.42.0.2/24", "fd42::2/64"} <= {*status["node"]["addresses"]}
    assert _links(two, status) == {"unix": True, "tcp": False}
    assert replies(two) == {"10.42.0.1"}
    assert status["policies"]["access"]["answers"] > 0


def _links(node: Node, status: dict[str, object] | None = None) -> dict[str, bool]:
    """The transports of the links to the other node, and whether each is the active one."""
    found = node.status() if status is None else status
    peers = found["peers"]
    assert isinstance(peers, list)
    return {link["transport"]: link["active"] for peer in peers for link in peer["links"]}


def test_what_was_removed_leaves_nothing(examples: Installation, tmp_path: Path) -> None:
    before = examples.plugins()
    distribution = before["tcp"]["distribution"]
    examples.pip("uninstall", "--yes", distribution)
    assert examples.plugins() == {name: e for name, e in before.items() if name != "tcp"}
    refused = examples.run("tunmesh", "plugins", "check", "tcp")
    assert refused.returncode != 0
    assert "tcp" in refused.stderr
    assert "Traceback" not in refused.stderr
    wheel = build(EXAMPLES["tcp"], tmp_path)
    examples.pip("install", "--no-deps", "--no-index", str(wheel))
    assert examples.plugins() == before


def test_wheels_say_that_they_are_typed(installation: Installation) -> None:
    for package in (
        "tunmesh",
        "tunmesh_multicast_igmp",
        "tunmesh_tun_linux",
        "tunmesh_transport_https",
        "tunmesh_transport_udp",
    ):
        (marker,) = installation.folder.glob(f"lib/*/site-packages/{package}/py.typed")
        assert marker.read_bytes() == b""
