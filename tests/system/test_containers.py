"""A node with the configuration and the capabilities that the container examples give it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import PATIENCE, SECRET, TUNMESH
from tests.system.test_privileges import (
    UNPRIVILEGED,
    expect_no_privileges,
    formed,
    several_users,
)

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"


@several_users
def test_the_capabilities_of_the_examples_are_enough(meshes: MeshFactory) -> None:
    added = yaml.safe_load((DOCKER / "compose.yaml").read_text())["x-node"]["cap_add"]
    mask = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
    mesh = meshes("a", "b")
    mesh.directory.chmod(0o711)
    secret = mesh.directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    for name, other in ("ab", "ba"):
        environment = {
            "TUNMESH_ADDRESS": f"10.42.1.{mesh.lab[name].number}/24",
            "TUNMESH_BOOTSTRAP": mesh.lab[other].url(),
            "TUNMESH_SECRET_FILE": str(secret),
            "TUNMESH_USER": "65534",
        }
        node = mesh.add(name, env=environment, program=(*UNPRIVILEGED, "0", mask, *TUNMESH))
        node.directory.chmod(0o755)
        (node.directory / "run").mkdir(mode=0o1777)
        node.socket = node.directory / "run" / "tunmesh" / "a.sock"  # made as /run/tunmesh is
        text = (DOCKER / "tunmesh.toml").read_text()
        node.config.write_text(f'{text}\n[admin]\nsocket = "{node.socket}"\n')
    mesh.start()
    formed(mesh)
    for node in mesh:
        expect_no_privileges(node)
        assert node.socket.stat().st_uid == node.socket.parent.stat().st_uid == 65534
    a, b = mesh
    b.host.run("ping", "-n", "-c", 1, "-W", 5, a.overlay4)
    # The health check: as the node's user, with nothing else.
    done = a.host.run(*UNPRIVILEGED, "65534", "-all", *TUNMESH, "status", "--socket", a.socket)
    assert "healthy" in done
    a.kill()
    a.start()  # what the killed one left is in the way of nothing
    formed(mesh)
    a.stop()
    eventually(lambda: not list(a.socket.parent.iterdir()), PATIENCE, "nothing is left")
