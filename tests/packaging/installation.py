"""Fresh virtual environments that hold built wheels and what is installed from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: The distributions of the workspace, by their names.
PROJECTS = {
    "tunmesh": ROOT / "core",
    "tunmesh-multicast-igmp": ROOT / "plugins" / "multicast_igmp",
    "tunmesh-transport-https": ROOT / "plugins" / "transport_https",
    "tunmesh-transport-udp": ROOT / "plugins" / "transport_udp",
    "tunmesh-tun-linux": ROOT / "plugins" / "tun_linux",
}
#: The examples, which are no part of the workspace, by the names of their plugins.
EXAMPLES = {
    "access": ROOT / "examples" / "policy_access",
    "lease": ROOT / "examples" / "address_lease",
    "qemu": ROOT / "examples" / "tun_qemu",
    "tcp": ROOT / "examples" / "transport_tcp",
    "unix": ROOT / "examples" / "transport_unix",
}


def build(project: Path, folder: Path) -> Path:
    """Build a wheel; the backend is the one that is installed here."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    before = {*folder.glob("*.whl")}
    done = subprocess.run([*command, str(project)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = {*folder.glob("*.whl")} - before
    return wheel


def lend_dependencies(environment: Path) -> None:
    """Give an environment what the distributions depend on, from where these tests run.

    So there is no download, and no sight of the work tree, which is installed there too.
    """
    site = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    dependencies = environment / "dependencies"
    dependencies.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not (entry.suffix == ".pth" or entry.name.startswith(("tunmesh", "_editable_"))):
            (dependencies / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(f"{dependencies}\n")


class Installation:
    """A virtual environment into which wheels are installed, and nothing else of this tree."""

    def __init__(self, folder: Path, wheels: Iterable[Path] = ()) -> None:
        self.folder = folder
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TUNMESH_", "PYTHON", "COV"))
        }
        venv.create(folder, with_pip=False)
        lend_dependencies(folder)
        self.pip("install", "--no-deps", "--no-index", *map(str, wheels))

    def run(
        self, program: str, *args: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bin" / program), *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=cwd or self.folder,
            env=self.environ,
        )

    def succeed(self, program: str, *args: str, cwd: Path | None = None) -> str:
        done = self.run(program, *args, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *args: str) -> str:
        return self.succeed("python", "-m", "pip", "--disable-pip-version-check", *args)

    def plugins(self) -> dict[str, dict[str, Any]]:
        document = json.loads(self.succeed("tunmesh", "plugins", "--json"))
        assert document["schema"] == 1
        return {plugin["name"]: plugin for plugin in document["plugins"]}
