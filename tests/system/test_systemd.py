"""The systemd units, checked without systemd running: by its own tools, and by what they allow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import PATIENCE, TUNMESH
from tests.system.sandbox import read_unit
from tests.system.test_privileges import (
    USER,
    formed,
    give,
    restart_with_subnet,
    routes,
    several_users,
)
from tunmesh.privileges import CAP_NET_ADMIN, capabilities

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
UNIT = UNITS / "tunmesh.service"
#: In tenths, as `systemd-analyze security` takes it: 0 is closed, 100 is open.
MOST_EXPOSURE = 20

Program = Callable[[str], str]


@pytest.fixture(params=["tunmesh.service", "tunmesh@.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit, with a program that exists, under its own name."""
    text = (UNITS / request.param).read_text()
    program = Path(sys.executable).with_name("tunmesh")
    copy = tmp_path / str(request.param)
    copy.write_text(text.replace("/usr/local/bin/tunmesh", str(program)))
    return copy


def analyze(program: Program, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``systemd-analyze``."""
    command = [program("systemd-analyze"), "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_finds_nothing_wrong(unit: Path, program: Program) -> None:
    done = analyze(program, "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_is_found(unit: Path, program: Program) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchDogSec=30"))
    assert "WatchDogSec" in analyze(program, "verify", "--man=no", unit).stderr


def test_the_exposure_stays_low(unit: Path, program: Program) -> None:
    done = analyze(program, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit))
    (level,) = re.findall(r"Overall exposure level for \S+ ([\d.]+)", done.stdout)
    assert done.returncode == 0, level


def test_the_template_differs_in_names_only() -> None:
    template = (UNITS / "tunmesh@.service").read_text()
    one = UNIT.read_text()
    assert template.partition("[Unit]")[2] == (
        one.partition("[Unit]")[2]
        .replace("a mesh VPN", "a mesh VPN (%i)")
        .replace("tunmesh.toml", "%i.toml")
        .replace("mesh.secret:/etc/tunmesh/mesh.secret", "mesh.secret:/etc/tunmesh/%i.secret")
        .replace("StateDirectory=tunmesh", "StateDirectory=tunmesh/%i")
        .replace(
            "RuntimeDirectoryMode=0700", "RuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes"
        )
    )


@several_users
def test_a_node_needs_no_more_than_the_unit_allows(meshes: MeshFactory, program: Program) -> None:
    program("systemd-analyze")
    mesh = meshes("a", "b")
    mesh.directory.chmod(0o711)
    urls = [f"https://{mesh.lab['a'].address4}:4443"]
    directory = mesh.directory / "a"
    sandbox = (sys.executable, "-m", "tests.system.sandbox", str(UNIT), USER, str(directory))
    plugins = ["tun_linux", "ifaddr", "udp", "https", "igmp"]
    options = {
        "plugins": {"enabled": plugins, "tun_linux": {"up": [f"id > {directory}/up"]}},
        "node": {"state_dir": str(directory / "state")},
    }
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}
    a = mesh.add("a", options=options, env=environment, program=(*sandbox, *TUNMESH))
    b = mesh.add("b", urls, options={"plugins": {"enabled": plugins}})
    give(a, USER)
    mesh.start()
    formed(mesh)
    assert a.process is not None
    status = Path(f"/proc/{a.process.pid}/status").read_text()
    assert "Seccomp:\t2\n" in status
    assert "Seccomp_filters:\t2\n" in status
    held = capabilities(a.process.pid)
    assert held.effective == held.bounding == 1 << CAP_NET_ADMIN
    mounts = Path(f"/proc/{a.process.pid}/mounts").read_text().splitlines()
    writable = [line.split()[1] for line in mounts if line.split()[3].split(",")[0] == "rw"]
    assert writable == [str(directory)]
    assert (directory / "up").read_text().startswith(f"uid={USER}")
    for address in a.overlay:
        b.host.run("ping", "-n", "-c", 1, "-W", 5, address)
    restart_with_subnet(b, "192.168.77.0/24")
    eventually(lambda: "192.168.77.0/24" in routes(a.host), 5 * PATIENCE, "a route")
    transports = {link["transport"] for peer in a.peers().values() for link in peer["links"]}
    assert transports == {"udp", "https"}
    tasks = len(list(Path(f"/proc/{a.process.pid}/task").iterdir()))
    assert tasks < int(read_unit(UNIT)["TasksMax"][0]) / 2
    assert "not permitted" not in a.log_text()


@several_users
def test_what_the_unit_forbids_is_refused(meshes: MeshFactory, program: Program) -> None:
    program("systemd-analyze")
    mesh = meshes("a")
    mesh.directory.chmod(0o711)
    directory = mesh.directory / "work"
    directory.mkdir(mode=0o777)
    attempts = """
import ctypes, mmap, os, pathlib, socket
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return True
    return False
print([
    refused(os.setresuid, 0, 0, 0),
    refused(os.chroot, "/"),
    refused(os.nice, 1),
    refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
    refused(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE, mmap.PROT_WRITE | mmap.PROT_EXEC),
    refused(pathlib.Path("/etc/new").write_text, ""),
    refused(pathlib.Path("/proc/1/status").read_text),
    refused(pathlib.Path("/dev/mem").open),
    ctypes.CDLL(None).unshare(0x10000000) == -1,
])
"""
    program_of = (sys.executable, "-m", "tests.system.sandbox", str(UNIT), USER, str(directory))
    output = mesh.lab["a"].run(
        "env", f"PYTHONPATH={ROOT}", *program_of, sys.executable, "-c", attempts
    )
    assert output == f"{[True] * 9}\n"
