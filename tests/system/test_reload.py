"""A running node follows a changed configuration, and a mesh a changed secret, without loss."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import PingStream
from tests.system.lab import eventually
from tests.system.node import NETWORKS, PATIENCE, SECRET, TUNMESH, Mesh, Node, merged
from tests.system.test_privileges import USER
from tunmesh.identity.secrets import derive

STEADY = Path(__file__).with_name("steady.py")
#: Bits a second; of datagrams of 1,000 bytes.
RATE = 100e6

#: One change of each key that applies live, in the order in which they are made.
LIVE: tuple[dict[str, Any], ...] = (
    {"bootstrap": {"seeds": {"retries": 7}}},
    {"bootstrap": {"seeds": {"interval": "3s"}}},
    {"bootstrap": {"more": {"urls": ["udp://192.0.2.9:4567"]}}},
    {"node": {"addresses": ["10.42.1.1/24", "fd42:0:0:1::1/64", "10.42.1.77/24"]}},
    {"node": {"subnets": ["192.168.77.0/24"]}},
    {"node": {"advertise": ["udp://192.0.2.8:4567"]}},
    {"node": {"relay": False}},
    {"mesh": {"eager_peers": 5}},
    {"mesh": {"cipher": "chacha20poly1305"}},
    {"routing": {"accept_subnets": ["192.168.0.0/16"]}},
    {"routing": {"broadcast": False}},
    {"routing": {"broadcast_rate": 10}},
    {"timing": {"rekey_after": "60s", "reject_after": "90s"}},
    {"timing": {"keepalive": "1s", "path_probe": "300ms", "standby_probe": "5s"}},
    {"timing": {"reregister_local": "3s", "reregister_mesh": "20s"}},
    {"timing": {"stale_local": "20s", "stale_mesh": "60s"}},
    {"plugins": {"igmp": {"mode": {'"239.1.0.0/16"': "flood"}, "rate_limit": 100}}},
    {"plugins": {"igmp": {"scope": {'"239.2.0.0/16"': "local"}, "router_ports": True}}},
    {"log": {"format": "json"}},
    {"log": {"level": "debug"}},
)


def keys(tables: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of nested tables, as far down as a plan names them."""
    for name, value in tables.items():
        key = f"{prefix}.{name}".lstrip(".")
        if isinstance(value, dict) and not key.startswith(("plugins.igmp.", "bootstrap.more")):
            yield from keys(value, key)
        else:
            yield key


@contextlib.contextmanager
def steady(source: Node, target: Node, seconds: float) -> Iterator[list[int]]:
    """Numbered datagrams; in the end the list holds how many were sent, arrived, and came twice."""
    port = 7777
    command = (sys.executable, STEADY)
    receiver = subprocess.Popen(
        target.host.command(*command, "receive", target.overlay4, port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    sender = None
    found: list[int] = []
    try:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == b"ready\n"
        sender = source.host.popen(*command, "send", target.overlay4, port, RATE, 1000, seconds)
        yield found
        sent = sender.communicate(timeout=seconds + 20)[0]
        counted = receiver.communicate(b"", timeout=20)[0]
        found += [int(sent), *map(int, counted.split())]
    finally:
        for process in (sender, receiver):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def reloads(node: Node) -> int:
    text = node.log_text()
    return text.count("reloaded ") + text.count('"reloaded"')


def hang_up(node: Node) -> None:
    """Send SIGHUP, and wait until the node has said what came of it."""
    before = reloads(node)
    node.kill(signal.SIGHUP)
    eventually(lambda: reloads(node) > before, 5 * PATIENCE, "the node has reloaded")


def test_each_live_key_changes_under_traffic_without_loss(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    # A queue for a machine whose two cores are shared by five busy processes.
    device = {"txqueuelen": 2000}
    plugins = {"plugins": {"enabled": ["tun_linux", "udp", "igmp"], "tun_linux": device}}
    for name in "ab":
        mesh.add(name, [] if name == "a" else [mesh.lab["a"].url()], options=plugins)
    mesh.expect_reachable(3, mesh.start())
    a, b = mesh["a"], mesh["b"]
    seconds = 1.0 + 0.35 * len(LIVE)
    with steady(b, a, seconds) as to_a:
        for change in LIVE:
            a.configure(merged(a.options, change))
            hang_up(a)
            time.sleep(0.25)  # for the traffic to meet what has changed
            for key in keys(change):
                assert f"{key} " in a.log_text() or f'"{key}"' in a.log_text(), key
    sent, arrived, twice = to_a
    assert sent > 0.8 * seconds * RATE / 8000 / PATIENCE, "the sender kept its rate"
    assert (sent - arrived, twice) == (0, 0), a.drops()
    assert "restart" not in a.log_text().replace("after_restart", "")
    eventually(
        lambda: a.peers()["b"]["links"][0]["cipher"] == "chacha20poly1305",
        5 * PATIENCE,
        "the session is made anew",
    )
    eventually(lambda: "192.168.77.0/24" in b.peers()["a"]["subnets"], 2, "the subnet is announced")
    assert "10.42.1.77" in b.peers()["a"]["addresses"]
    b.host.run("ping", "-n", "-c", 1, "-W", 2, "10.42.1.77")


def test_what_is_broken_or_needs_a_restart(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    a = mesh.add("a")
    a.start()
    eventually(a.ready, 5 * PATIENCE, "the node is up")
    good = a.options
    a.configure(merged(good, {"nod": {}, "mesh": {"cipher": "rot13"}, "log": {"level": "debug"}}))
    a.config.write_text(a.config.read_text() + "[nod]\n")
    a.kill(signal.SIGHUP)
    eventually(lambda: "reload refused" in a.log_text(), 5 * PATIENCE, "it is refused")
    line = next(line for line in a.log_text().splitlines() if "reload refused" in line)
    assert "did you mean node?" in line
    assert "mesh.cipher" in line
    a.config.write_text("[mesh")
    assert ask(a, "reload", "--socket", a.socket).returncode == 2
    a.config.unlink()
    assert ask(a, "reload", "--socket", a.socket).returncode == 2
    assert a.ready()
    a.configure(
        merged(good, {"mesh": {"networks": [*NETWORKS, "10.43.0.0/16"]}, "log": {"format": "json"}})
    )
    for _ in range(2):
        answer = json.loads(ask(a, "reload", "--socket", a.socket, "--json").stdout)
        found = {change["key"]: change["applies"] for change in answer["changes"]}
        assert found.pop("log.format", "live") == "live"
        assert found == {"mesh.networks": "restart"}
    assert a.status()["mesh"]["networks"] == ["10.42.0.0/16", "fd42::/48"]


def ask(node: Node, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command beside a node."""
    done = subprocess.run(
        [*TUNMESH, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=node.directory,
        timeout=20,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def rotate(mesh: Mesh, *step: str, secret: str = "") -> None:
    """Do a step of the change of secrets on every node, all at once."""
    commands = [
        subprocess.Popen(
            [*TUNMESH, "secret", "rotate", "-c", node.config, *step],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in mesh
    ]
    for command in commands:
        printed = command.communicate(secret, timeout=20)[0]
        assert command.returncode == 0, printed
        assert SECRET not in printed
        assert not secret or secret not in printed


@pytest.mark.timeout(120)
def test_the_secret_of_five_nodes_is_changed_under_traffic_without_loss(
    meshes: MeshFactory,
) -> None:
    mesh = meshes(*"abcde")
    timing = {"timing": {"rekey_after": "2s", "reject_after": "5s"}}
    for name in "abcde":
        node = mesh.add(name, [] if name == "a" else [mesh.lab["a"].url()], options=timing)
        file = node.directory / "mesh.secret"
        file.write_text(f"{SECRET}\n")
        file.chmod(0o600)
        options = {**node.options, "mesh": {**node.options["mesh"], "secret_file": "mesh.secret"}}
        del options["mesh"]["secret"]
        node.configure(options)
    mesh.expect_reachable(3, mesh.start())
    mesh.expect_peers()
    new = "the-secret-that-comes-after-0123456789abcdef"
    old_print, new_print = (derive(text.encode(), "test").psk_id.hex() for text in (SECRET, new))
    pairs = [(s, t) for s in mesh for t in mesh if s is not t]
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(PingStream(source.host, target.overlay4, interval=0.1))
            for source, target in pairs
        ]
        rotate(mesh, "--add", "--from", "-", secret=new)
        assert mesh["c"].status()["mesh"]["secrets"] == [old_print, new_print]
        rotate(mesh, "--use")
        assert mesh["c"].status()["mesh"]["secrets"] == [new_print, old_print]
        for node in mesh:
            eventually(
                lambda node=node: node.status()["mesh"]["peers_old_secret"] == 0,  # type: ignore[misc]
                20 * PATIENCE,
                f"nobody uses the old secret with {node.name}",
            )
        rotate(mesh, "--retire")
    assert [stream.lost() for stream in streams] == [0] * len(pairs)
    for node in mesh:
        assert node.status()["mesh"]["secrets"] == [new_print]
        assert new not in node.log_text()
    late = mesh.add("late", [mesh["a"].host.url()])
    late.configure(merged(late.options, {"mesh": {"secret": new}}))
    mesh.expect_reachable(3, late.start(), targets=[late])


@pytest.mark.skipif(USER == "0", reason="needs several users, so root")
def test_without_privileges(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    a = mesh.add("a", options={"node": {"user": USER}})
    b = mesh.add("b", [mesh.lab["a"].url()])
    file = a.directory / "mesh.secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    tables = {**a.options, "mesh": {**a.options["mesh"], "secret_file": "mesh.secret"}}
    del tables["mesh"]["secret"]
    a.configure(tables)
    mesh.expect_reachable(3, mesh.start())
    a.directory.parent.chmod(0o711)
    a.directory.chmod(0o755)
    assert ask(a, "reload", "--socket", a.socket).returncode == 2, "it is for root's eyes only"
    more = {"node": {"addresses": [f"{a.overlay4}/24", "10.42.1.77/24"]}}
    a.configure(merged(a.options, more))
    a.config.chmod(0o644)
    done = ask(a, "reload", "--socket", a.socket)
    assert done.returncode == 0, done.stderr
    assert "the secrets in force stay" in done.stderr
    assert "node.addresses" in done.stdout
    eventually(lambda: "10.42.1.77" in b.peers()["a"]["addresses"], 3 * PATIENCE, "it is told")
    b.host.run("ping", "-n", "-c", 1, "-W", 2, "10.42.1.77")
