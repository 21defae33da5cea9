"""What ``tunmesh plugins new`` writes: installed beside wheels, tested, and run as a mesh."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.installation import Installation
from tests.system.node import PATIENCE, toml
from tunmesh.admin.client import ask
from tunmesh.errors import AdminError

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


class Node:
    """A node of the four plugins.

    Args:
        number: 1 or 2.
        directory: For its files.
        options: Of its plugins, besides the defaults.
        urls: By which it joins.
    """

    def __init__(
        self, number: int, directory: Path, options: Mapping[str, Any], *urls: str
    ) -> None:
        self.directory = directory / str(number)
        self.directory.mkdir(mode=0o700)
        self.socket = self.directory / "admin.sock"
        (self.directory / "addresses.txt").write_text(f"10.42.0.{number}/24\nfd42::{number}/64\n")
        tables = {
            "mesh": {"networks": ["10.42.0.0/16", "fd42::/48"]},
            "node": {"name": f"node-{number}"},
            "plugins": {"enabled": [*PLUGINS.values()], **options},
            "bootstrap": {"seeds": {"urls": list(urls)}},
            "admin": {"socket": str(self.socket)},
        }
        (self.directory / "node.toml").write_text(toml(tables))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.socket, "status", timeout=5.0)
        return status

    @contextmanager
    def running(self, installation: Installation) -> Iterator[None]:
        command = [str(installation.folder / "bin" / "tunmesh"), "run", "-c", "node.toml"]
        log = self.directory / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, cwd=self.directory, stderr=output, env=installation.environ
            ) as process,
        ):
            try:
                yield
            except BaseException as error:
                error.add_note(log.read_text())
                raise
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(5 * PATIENCE)
        assert code == 0, log.read_text()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15 * PATIENCE
    while True:
        try:
            if condition():
                return
        except AdminError:  # not yet there
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def replies(node: Node) -> set[str]:
    """The addresses of which the node's device logged an answer."""
    lines = (node.directory / "log").read_text().splitlines()
    return {
        word.removeprefix("address=")
        for line in lines
        if "pong" in line
        for word in line.split()
        if word.startswith("address=")
    }


def test_a_mesh_of_all_four_roles(
    installation: Installation, written: dict[str, Path], tmp_path: Path
) -> None:
    secret = installation.succeed("tunmesh", "secret", "generate").strip()
    installation.environ["TUNMESH_SECRET"] = secret
    listen = {"hello": {"listen": "127.0.0.1:0"}}
    one = Node(1, tmp_path, listen)
    with one.running(installation):
        eventually(lambda: bool(one.status()["node"]["endpoints"]))
        (url,) = one.status()["node"]["endpoints"]
        assert url.startswith("hello://127.0.0.1:")
        pings = {"ping": ["10.42.0.1", "fd42::1"], "interval": "100ms"}
        two = Node(2, tmp_path, {**listen, "hello_tun": pings}, url)
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
    assert {
        "prefix": "239.192.0.1/32",
        "kind": "multicast",
        "peers": ["node-1", "node-2"],
        "source": "hello_policy",
    } in [{**route, "peers": sorted(route["peers"])} for route in status["routes"]]
    (group,) = status["groups"]
    assert (group["group"], group["local"], group["members"]) == ("239.192.0.1", True, ["node-1"])


def test_a_name_is_taken_once_it_is_installed(
    installation: Installation, written: dict[str, Path], tmp_path: Path
) -> None:
    refused = installation.run("tunmesh", "plugins", "new", "hello", "--role", "tun", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == ("tunmesh: plugin hello: is installed already: choose another name\n")
