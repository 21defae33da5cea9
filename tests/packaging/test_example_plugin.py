"""A stranger's plugin: built, installed beside the wheels of tunmesh, used, and removed again."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = (
    ROOT / "core",
    ROOT / "plugins" / "multicast_igmp",
    ROOT / "plugins" / "tun_linux",
    ROOT / "plugins" / "transport_https",
    ROOT / "plugins" / "transport_udp",
    ROOT / "tests" / "packaging" / "example_plugin",
)

pytestmark = pytest.mark.timeout(180)

#: Two of its transports in one process, with the tools that tunmesh ships for plugins' tests.
EXCHANGE = """
import anyio
from tunmesh.testing import FakeTransportContext
from tunmesh_example_tcp import Options, TcpTransport


async def until(condition):
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def main():
    async with anyio.create_task_group() as tasks:
        options = Options(listen="127.0.0.1:0")
        a, b = (FakeTransportContext(options, name="tcp", tasks=tasks) for _ in range(2))
        async with TcpTransport(a) as here, TcpTransport(b) as there:
            path = here.connect(there.local_endpoints()[0])
            assert here.send(path, [b"x" * 100, b"y" * 50], 60)
            await until(lambda: len(b.inbound.received) == 3)
            assert b"".join(b.inbound.datagrams()) == b"x" * 100 + b"y" * 50
            assert here.connect(path.endpoint) is path
            back = b.inbound.received[0].handle
            assert there.send(back, [b"answer"], 60)
            await until(lambda: a.inbound.received)
            assert a.inbound.received == [(path, b"answer", 6)]
            there.release(back)
            await until(lambda: a.inbound.closed and b.inbound.closed)
            assert here.send(path, [b"again"], 60)
            await until(lambda: len(b.inbound.received) == 4)
    print("exchanged")


anyio.run(main)
"""


class Installation:
    """A virtual environment into which wheels are installed, and nothing else of this tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        # What the distributions depend on is taken from where these tests run: no download, and
        # no sight of the work tree, which is installed there too.
        dependencies = folder / "dependencies"
        dependencies.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not (entry.suffix == ".pth" or entry.name.startswith(("tunmesh", "_editable_"))):
                (dependencies / entry.name).symlink_to(entry)
        (site / "dependencies.pth").write_text(f"{dependencies}\n")

    def run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bin" / program), *args]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, cwd=self.folder
        )

    def succeed(self, program: str, *args: str) -> str:
        done = self.run(program, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pip(self, *args: str) -> str:
        return self.succeed("python", "-m", "pip", "--disable-pip-version-check", *args)

    def plugins(self) -> dict[str, dict[str, Any]]:
        document = json.loads(self.succeed("tunmesh", "plugins", "--json"))
        assert document["schema"] == 1
        return {plugin["name"]: plugin for plugin in document["plugins"]}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    for project in PROJECTS:
        done = subprocess.run([*build, str(project)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    wheels = [str(wheel) for wheel in folder.glob("*.whl")]
    assert len(wheels) == len(PROJECTS)
    made = Installation(tmp_path_factory.mktemp("installation"))
    made.pip("install", "--no-deps", "--no-index", *wheels)
    return made


def test_a_strangers_plugin_is_installed_used_and_removed(installation: Installation) -> None:
    installation.pip("check")
    plugins = installation.plugins()
    assert (
        plugins["tcp"].items()
        >= {
            "distribution": "tunmesh-example-tcp",
            "version": "0.1.0",
            "state": "available",
            "error": None,
            "enabled": False,
        }.items()
    )
    assert "TCP (an example)" in installation.succeed("tunmesh", "plugins", "check", "tcp")
    assert 'listen = "127.0.0.1:4568"' in installation.succeed(
        "tunmesh", "config", "example", "--plugins", "tun_linux,tcp"
    )
    assert installation.succeed("python", "-c", EXCHANGE) == "exchanged\n"

    installation.pip("uninstall", "--yes", "tunmesh-example-tcp")
    installation.pip("check")
    left = installation.plugins()
    assert left == {name: entry for name, entry in plugins.items() if name != "tcp"}
    refused = installation.run("tunmesh", "plugins", "check", "tcp")
    assert refused.returncode != 0
    assert "tcp" in refused.stderr
    assert "Traceback" not in refused.stderr


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
