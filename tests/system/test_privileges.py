"""What the processes of a node may do, and what they still can do with so little."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import Host, eventually
from tests.system.node import NETWORKS, PATIENCE, TUNMESH, Mesh, Node
from tunmesh.privileges import CAP_NET_ADMIN, capabilities

#: An ordinary user; in a user namespace there is only one.
USER = (
    "65534"
    if len(Path("/proc/self/uid_map").read_text().split()) == 3
    and int(Path("/proc/self/uid_map").read_text().split()[2]) > 65534
    else "0"
)
HELPER = b"tunmesh_tun_linux.netadmin"
UNPRIVILEGED = (sys.executable, str(Path(__file__).with_name("unprivileged.py")))

several_users = pytest.mark.skipif(USER == "0", reason="needs several users, so root")


def give(node: Node, user: str) -> None:
    """Let a user have the files of a node."""
    node.directory.parent.chmod(0o711)
    for path in (node.directory, *node.directory.iterdir()):
        os.chown(path, int(user), int(user))


def children(node: Node) -> dict[int, bytes]:
    """The processes that a node started, with their command lines."""
    assert node.process is not None
    found = {}
    for pid in node.host.processes():
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if int(status[1]) == node.process.pid:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def ended(pid: int) -> bool:
    """Whether a process has ended, though nobody may have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def helper_of(node: Node) -> int:
    """The helper process."""
    (pid,) = (pid for pid, command in children(node).items() if HELPER in command)
    return pid


def expect_no_privileges(node: Node) -> None:
    """See that no thread of the node has a privilege."""
    assert node.process is not None
    pid = node.process.pid
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    assert tasks
    for task in tasks:
        found = capabilities(int(task.name))
        assert not found.usable, (task, found)
        assert not found.inheritable
        assert not found.bounding
        assert found.no_new_privileges
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        assert set(status["Uid"].split()) == {USER}
        assert status["Groups"].split() in ([], ["0"] if USER == "0" else [])
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)


def routes(host: Host) -> set[str]:
    """The destinations that are routed into the device."""
    return {
        item["dst"]
        for version in ("-4", "-6")
        for item in host.ip("-j", version, "route", "show", "dev", "tun1")
    }


def a_with_user(meshes: MeshFactory, **more: Any) -> Mesh:
    """A mesh of two, the first of which gives up its privileges."""
    mesh = meshes("a", "b")
    url = mesh.lab["a"].url()
    plugins = {"enabled": ["tun_linux", "ifaddr", "udp"], "tun_linux": more.pop("tun_linux", {})}
    node = {"user": USER, **more.pop("node", {})}
    mesh.add("a", options={"node": node, "plugins": plugins, **more})
    mesh.add("b", [url])
    mesh.start()
    formed(mesh)
    return mesh


def formed(mesh: Mesh) -> None:
    """Wait until every node has every other as a peer."""
    others = len(mesh.running()) - 1
    eventually(
        lambda: all(node.ready() and len(node.peers()) == others for node in mesh),
        10 * PATIENCE,
        "a mesh",
    )


def restart_with_subnet(node: Node, subnet: str) -> None:
    """Have a node announce another subnet."""
    node.stop()
    node.configure({**node.options, "node": {**node.options["node"], "subnets": [subnet]}})
    node.start()


def test_the_node_has_no_capability_and_routes_still_change(meshes: MeshFactory) -> None:
    mesh = a_with_user(meshes)
    a, b = mesh
    expect_no_privileges(a)
    helper = capabilities(helper_of(a))
    assert helper.permitted == helper.effective == 1 << CAP_NET_ADMIN
    assert helper.ambient == helper.inheritable == helper.bounding == 0
    assert helper.no_new_privileges
    assert f"Uid:\t{USER}" in Path(f"/proc/{helper_of(a)}/status").read_text()
    restart_with_subnet(b, "192.168.77.0/24")
    eventually(lambda: "192.168.77.0/24" in routes(a.host), 5 * PATIENCE, "a route")
    a.host.ip("address", "flush", "dev", "tun1")
    eventually(lambda: a.overlay4 in str(a.host.ip("address")), 2 * PATIENCE, "healed")
    eventually(lambda: NETWORKS[0] in routes(a.host), 2 * PATIENCE, "healed")
    formed(mesh)
    b.host.run("ping", "-n", "-c", 1, "-W", 5, a.overlay4)
    expect_no_privileges(a)  # also those threads that came later


def test_files_stay_usable(meshes: MeshFactory) -> None:
    other = meshes("x")
    other.directory.chmod(0o711)  # the directories above it must let the user pass
    state = other.directory / "state"
    options = {"node": {"state_dir": str(state), "addresses": ["auto/24"]}}
    mesh = a_with_user(meshes, **options)
    a, _ = mesh
    first = a.status()["node"]["id"]
    assert state.stat().st_uid == int(USER)
    assert {item.stat().st_uid for item in state.iterdir()} == {int(USER)}
    a.stop()
    a.start()
    eventually(a.ready, 5 * PATIENCE, "started again")
    assert a.status()["node"]["id"] == first


def test_a_state_directory_of_root_is_handed_over(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    mesh.directory.chmod(0o711)
    state = mesh.directory / "state"
    a = mesh.add("a", options={"node": {"state_dir": str(state)}})
    a.start()
    eventually(a.ready, 5 * PATIENCE, "up as root")
    first = a.status()["node"]["id"]
    a.stop()
    a.configure({**a.options, "node": {**a.options["node"], "user": USER}})
    a.start()
    eventually(a.ready, 5 * PATIENCE, "up as an ordinary user")
    assert a.status()["node"]["id"] == first


def test_a_killed_helper_ends_the_node(meshes: MeshFactory) -> None:
    a, _ = a_with_user(meshes)
    assert a.process is not None
    os.kill(helper_of(a), signal.SIGKILL)
    began = time.monotonic()
    assert a.process.wait(1 * PATIENCE) == 1
    print(f"ended after {time.monotonic() - began:.3f} s")  # noqa: T201  # pytest shows it
    assert a.log_text().splitlines()[-1] == "tunmesh: device lost: its helper process ended"


def test_a_killed_node_takes_its_processes_along(meshes: MeshFactory) -> None:
    done = Path(meshes("x").directory, "done")
    a, _ = a_with_user(meshes, tun_linux={"down": [f"echo $TUNMESH_DEVICE > {done}"]})
    processes = children(a)
    assert len(processes) == 2
    a.kill()
    eventually(lambda: all(ended(pid) for pid in processes), 2 * PATIENCE, "all ended")
    assert done.read_text() == "tun1\n"


def test_commands(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    log = mesh.directory / "commands"
    log.mkdir()
    up = [
        f"env | sort > {log}/up; id -u >> {log}/up",
        ["sh", "-c", f'echo "$0" > {log}/list', "$(id) ${TUNMESH_DEVICE}"],
        "ip rule add from 10.42.1.0/24 lookup 77",
    ]
    down = ["false", "ip rule del from 10.42.1.0/24 lookup 77", f"id -u > {log}/down"]
    a = mesh.add(
        "a",
        options={
            "node": {"user": USER},
            "plugins": {"tun_linux": {"up": up, "down": down, "mtu": 1300}},
        },
        env={"TUNMESH_SECRET": "not-for-anybody-else-0123456789abcdef"},
    )
    a.start()
    eventually(a.ready, 5 * PATIENCE, "up")
    expect_no_privileges(a)
    lines = (log / "up").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    status = a.status()
    assert environment["TUNMESH_DEVICE"] == "tun1"
    assert environment["TUNMESH_ADDRESSES"] == "10.42.1.1/24 fd42:0:0:1::1/64"
    assert environment["TUNMESH_NETWORKS"] == " ".join(NETWORKS)
    assert environment["TUNMESH_MTU"] == "1300"
    assert environment["TUNMESH_NODE_NAME"] == "a"
    assert environment["TUNMESH_NODE_ID"] == status["node"]["id"]
    assert "/usr/sbin" in environment["PATH"]
    assert "TUNMESH_SECRET" not in environment
    assert lines[-1] == "0"
    assert (log / "list").read_text() == "$(id) ${TUNMESH_DEVICE}\n"
    assert "lookup 77" in a.host.ip("rule")
    a.stop()
    assert "lookup 77" not in a.host.ip("rule")
    assert (log / "down").read_text() == "0\n"
    assert "`false` ended with exit code 1" in a.log_text()


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo what is wrong >&2; exit 3", "with exit code 3\ntunmesh:   what is wrong"),
        (["no-such-program"], "cannot be run: "),
    ],
)
def test_a_failing_command_stops_the_start(
    meshes: MeshFactory, command: object, output: str
) -> None:
    mesh = meshes("a")
    undone = mesh.directory / "undone"
    options = {"up": [command], "down": [f"touch {undone}"]}
    a = mesh.add("a", options={"plugins": {"tun_linux": options}})
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 1
    assert "tunmesh: plugins.tun_linux.up: `" in a.log_text()
    assert output in a.log_text()
    assert undone.exists()
    assert "tun1" not in a.host.ip("link")


def test_commands_need_a_safe_file(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    a = mesh.add("a", options={"plugins": {"tun_linux": {"up": ["true"]}}})
    a.config.chmod(0o620)
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 2
    assert "plugins.tun_linux.up: runs commands, but others can write the file" in a.log_text()


def set_up(host: Host, *arguments: str) -> str:
    """Run ``tunmesh tun setup``."""
    return host.run(*TUNMESH, "tun", "setup", *arguments)


def persistent(node: Node, *, complete: bool = True) -> None:
    """Make a persistent device for a node."""
    arguments = [f"--address={node.overlay4}/24", f"--address={node.overlay6}/64"]
    if complete:
        arguments += [f"--network={network}" for network in (*NETWORKS, "192.168.0.0/16")]
    set_up(node.host, f"--owner={USER}", *arguments)


def test_a_persistent_device_needs_no_capability(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    url = mesh.lab["a"].url()
    program = (*UNPRIVILEGED, USER, "-all", *TUNMESH)
    options = {"plugins": {"enabled": ["tun_linux", "ifaddr", "udp"]}}
    a = mesh.add("a", options=options, program=program)
    b = mesh.add("b", [url])
    give(a, USER)
    persistent(a)
    persistent(a)  # once more changes nothing
    before = a.host.ip("address", "show", "dev", "tun1")
    mesh.start()
    formed(mesh)
    expect_no_privileges(a)
    b.host.run("ping", "-n", "-c", 1, "-W", 5, a.overlay4)
    b.host.run("ping", "-n", "-c", 1, "-W", 5, a.overlay6)
    own = eventually(
        lambda: [x for x in a.status()["node"]["addresses"] if x.startswith("fe80:")],
        5 * PATIENCE,
        "a link-local address",
    )
    eventually(lambda: own[0].split("/")[0] in str(b.status()["peers"]), 2 * PATIENCE, "announced")
    b.host.run("ping", "-n", "-c", 1, "-W", 5, f"{own[0].split('/')[0]}%tun1")
    restart_with_subnet(b, "192.168.77.0/24")
    eventually(lambda: "192.168.77.0/24" in str(a.status()["routes"]), 5 * PATIENCE, "known")
    assert "device configuration failed" not in a.log_text()
    a.stop()
    after = a.host.ip("address", "show", "dev", "tun1")
    assert [x in after for x in (a.overlay4, a.overlay6)] == [True, True], before
    a.start()  # and again
    formed(mesh)


def test_what_a_persistent_device_lacks_is_one_error(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    program = (*UNPRIVILEGED, USER, "-all", *TUNMESH)
    a = mesh.add("a", program=program)
    give(a, USER)
    persistent(a, complete=False)
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 1
    assert a.log_text().splitlines()[-1] == (
        "tunmesh: device tun1 lacks route 10.42.0.0/16, route fd42::/48, and this process has no "
        "permission to add that: run it as root or with CAP_NET_ADMIN, or have "
        "`tunmesh tun setup` do it before"
    )


def test_without_capability_and_device(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    a = mesh.add("a", program=(*UNPRIVILEGED, USER, "-all", *TUNMESH))
    give(a, USER)
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 1
    assert "no permission to create device tun1: it needs CAP_NET_ADMIN" in a.log_text()


def test_a_persistent_device_is_left_as_it_was(meshes: MeshFactory) -> None:
    mesh = a_persistent_root(meshes)
    a = mesh["a"]
    a.stop()
    left = a.host.ip("address", "show", "dev", "tun1")
    assert a.overlay4 not in left
    assert "10.42.1.99" in left
    assert routes(a.host) == {"10.42.1.0/24"} or "10.42.0.0/16" not in routes(a.host)


def a_persistent_root(meshes: MeshFactory) -> Mesh:
    """A node with its privileges on a persistent device with another address."""
    mesh = meshes("a")
    a = mesh.add("a", options={"node": {"user": USER}})
    set_up(a.host, "--owner=0", "--address=10.42.1.99/24")
    a.start()
    eventually(a.ready, 5 * PATIENCE, "up")
    assert a.overlay4 in a.host.ip("address", "show", "dev", "tun1")
    assert "10.42.0.0/16" in routes(a.host)
    return mesh


@several_users
def test_an_ordinary_user_with_one_ambient_capability(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    url = mesh.lab["a"].url()
    a = mesh.add("a", program=(*UNPRIVILEGED, USER, "-all,+net_admin", *TUNMESH))
    b = mesh.add("b", [url])
    give(a, USER)
    mesh.start()
    formed(mesh)
    assert a.process is not None
    assert capabilities(a.process.pid).effective == 1 << CAP_NET_ADMIN
    b.host.run("ping", "-n", "-c", 1, "-W", 5, a.overlay4)
    restart_with_subnet(b, "192.168.77.0/24")
    eventually(lambda: "192.168.77.0/24" in routes(a.host), 5 * PATIENCE, "a route")


@several_users
def test_an_ordinary_user_gives_up_the_ambient_capability(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    url = mesh.lab["a"].url()
    options = {"node": {"user": USER}}
    a = mesh.add("a", options=options, program=(*UNPRIVILEGED, USER, "-all,+net_admin", *TUNMESH))
    b = mesh.add("b", [url])
    give(a, USER)
    mesh.start()
    formed(mesh)
    assert a.process is not None
    for task in Path(f"/proc/{a.process.pid}/task").iterdir():
        assert not capabilities(int(task.name)).usable
    restart_with_subnet(b, "192.168.77.0/24")
    eventually(lambda: "192.168.77.0/24" in routes(a.host), 5 * PATIENCE, "a route")


@several_users
def test_only_some_may_become_another_user(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    options = {"node": {"user": "12345"}}
    a = mesh.add("a", options=options, program=(*UNPRIVILEGED, USER, "-all,+net_admin", *TUNMESH))
    give(a, USER)
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 2
    assert "node.user: cannot become" in a.log_text()


HANDS_DOWN = """\
import os, sys
from tunmesh_tun_linux.tunfd import open_tun
fd = open_tun("handed")[0] if sys.argv[1] == "open" else os.open("/dev/net/tun", os.O_RDWR)
os.dup2(fd, 9)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize(("state", "name"), [("open", "handed"), ("fresh", "tun1")])
def test_an_inherited_descriptor(meshes: MeshFactory, state: str, name: str) -> None:
    mesh = meshes("a")
    program = (sys.executable, "-c", HANDS_DOWN, state, *TUNMESH)
    a = mesh.add("a", options={"plugins": {"tun_linux": {"fd": 9}}}, program=program)
    a.start()
    eventually(a.ready, 5 * PATIENCE, "up")
    assert a.status()["device"]["name"] == name
    assert a.overlay4 in a.host.ip("address", "show", "dev", name)
    a.stop()
    assert name not in a.host.ip("link")


def test_a_wrong_descriptor(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    a = mesh.add("a", options={"plugins": {"tun_linux": {"fd": 0}}})
    a.start()
    assert a.process is not None
    assert a.process.wait(10) == 1
    assert "plugins.tun_linux.fd: descriptor 0 is no TUN device" in a.log_text()


def test_tun_setup_needs_privileges(meshes: MeshFactory, program: Callable[[str], str]) -> None:
    host = meshes("a").lab["a"]
    command = (program("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--", *TUNMESH)
    done = subprocess.run(
        host.command(*command, "tun", "setup", "--owner=0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("tunmesh: no permission to create device tun1")
    assert done.stderr.count("\n") == 1
