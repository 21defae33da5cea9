"""A mesh over a stranger's transport: a wheel, installed beside tunmesh, chosen by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import MeshFactory
from tests.system.node import merged

EXAMPLE = Path(__file__).parents[2] / "examples" / "transport_tcp"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example plugin, installed from its wheel."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    build = ("build", "--wheel", "--no-isolation", "--outdir", wheels, EXAMPLE)
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    install = ("pip", "install", "--no-deps", "--no-index", "--target", folder, wheel)
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    return folder


def test_a_mesh_over_a_strangers_transport(installed: Path, meshes: MeshFactory) -> None:
    mesh = meshes("a", "b", "c")
    options = {"plugins": {"enabled": ["tun_linux", "tcp"]}}
    for name in "abc":
        urls = [f"tcp://{mesh.lab['a'].address4}:4568"] if name != "a" else []
        node = mesh.add(name, urls, options=options, env={"PYTHONPATH": str(installed)})
        listen = {"plugins": {"tcp": {"listen": f"{mesh.lab[name].address4}:4568"}}}
        node.configure(merged(node.options, listen))
    mesh.expect_reachable(5, mesh.start())
    for node in mesh:
        for peer in node.peers().values():
            assert {link["transport"] for link in peer["links"] if link["active"]} == {"tcp"}


def test_without_it_the_name_is_refused_in_one_line(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    node = mesh.add("a", options={"plugins": {"enabled": ["tun_linux", "udp", "tcp"]}})
    node.start()
    assert node.process is not None
    assert node.process.wait(10) == 2
    (line,) = node.log_text().splitlines()
    assert line.startswith("tunmesh: plugin tcp: is not installed")
