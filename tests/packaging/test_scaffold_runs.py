"""What ``tunmesh plugins new`` writes: installed beside wheels, tested, and run as a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.installation import Installation
from tests.packaging.nodes import Node, eventually, replies

pytestmark = pytest.mark.timeout(240)

#: The plugins to be, by role. The device needs no privilege, so that the mesh runs as anybody.
PLUGINS = {
    "transport": "hello",
    "tun": "hello_tun",
    "policy": "hello_policy",
    "address": "hello_address",
}


@pytest.fixture(scope="module")
def written(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """The distributions as they were written, installed; by the role of each."""
    folder = tmp_path_factory.mktemp("authors")
    directories = {role: folder / role for role in PLUGINS}
    for role, name in PLUGINS.items():
        options = ("--role", role, "--directory", str(directories[role]))
        installation.succeed("tunmesh", "plugins", "new", name, *options)
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    installation.pip("install", *offline, *map(str, directories.values()))
    yield directories
    distributions = [f"tunmesh-{name.replace('_', '-')}" for name in PLUGINS.values()]
    installation.pip("uninstall", "--yes", *distributions)


@pytest.mark.parametrize("role", PLUGINS)
def test_its_own_tests_pass(
    installation: Installation, written: dict[str, Path], role: str
) -> None:
    checked = installation.succeed("tunmesh", "plugins", "check", PLUGINS[role])
    assert checked.startswith(f"plugin {PLUGINS[role]} of tunmesh-hello")
    assert f"\n{role}: " in checked
    tested = installation.succeed(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=written[role]
    )
    assert " passed" in tested
    assert "failed" not in tested


def test_a_mesh_of_all_four_roles(
    installation: Installation, written: dict[str, Path], tmp_path: Path
) -> None:
    secret = installation.succeed("tunmesh", "secret", "generate").strip()
    installation.environ["TUNMESH_SECRET"] = secret
    listen = {
        "hello": {"listen": "127.0.0.1:0"},
        "hello_address": {"file": "addresses.txt"},
    }
    one = Node(1, tmp_path, PLUGINS.values(), listen)
    with one.running(installation):
        eventually(lambda: bool(one.status()["node"]["endpoints"]))
        (url,) = one.status()["node"]["endpoints"]
        assert url.startswith("hello://127.0.0.1:")
        pings = {"ping": ["10.42.0.1", "fd42::1"], "interval": "100ms"}
        two = Node(2, tmp_path, PLUGINS.values(), {**listen, "hello_tun": pings}, url)
        with two.running(installation):
            eventually(lambda: replies(two) == {"10.42.0.1", "fd42::1"})
            eventually(lambda: two.status()["groups"] != [])  # told of in the other's record
            status = two.status()
    assert status["device"]["backend"] == "hello_tun"
    assert {entry["name"]: entry["state"] for entry in status["plugins"]} == dict.fromkeys(
        PLUGINS.values(), "active"
    )
    assert {"10.42.0.2/24", "fd42::2/64"} <= {*status["node"]["addresses"]}
    (peer,) = status["peers"]
    assert (peer["name"], peer["state"], peer["via"]) == ("node-1", "up", "direct")
    assert [link["transport"] for link in peer["links"]] == ["hello"]
    assert peer["rx_packets"] >= 2
    (route,) = (route for route in status["routes"] if route["kind"] == "multicast")
    assert (route["prefix"], route["source"]) == ("239.192.0.1/32", "hello_policy")
    assert sorted(route["peers"]) == ["node-1", "node-2"]
    (group,) = status["groups"]
    assert (group["group"], group["local"], group["members"]) == ("239.192.0.1", True, ["node-1"])


def test_a_name_is_taken_once_it_is_installed(
    installation: Installation, written: dict[str, Path], tmp_path: Path
) -> None:
    refused = installation.run("tunmesh", "plugins", "new", "hello", "--role", "tun", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == ("tunmesh: plugin hello: is installed already: choose another name\n")
