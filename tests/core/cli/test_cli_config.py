from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunmesh.config.types import Document

pytestmark = pytest.mark.usefixtures("shouter")

Run = Callable[..., Any]
Write = Callable[[str], str]

SECRET = "mSaEUt0_ux2rw-TUewiq_yalE5-8K9Ll5j74dqyNIOs"
GOOD = f"""
[mesh]
networks = ["10.42.0.0/16"]
secret = "{SECRET}"
[node]
name = "a"
addresses = ["10.42.0.1/24"]
[plugins]
enabled = ["shouter"]
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        path = tmp_path / "x.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


def test_the_example_is_good_once_the_required_values_are_set(run: Run, write: Write) -> None:
    code, out, err = run("config", "example", "--plugins", "shouter")
    assert (code, err) == (0, "")
    document = tomllib.loads(out)
    assert document.keys() == set(Document.__struct_fields__)
    assert document["plugins"]["enabled"][0] == "shouter"
    assert document["plugins"]["shouter"] == {"volume": 5, "password": ""}
    for key, value in (
        ("networks", '["10.42.0.0/16"]'),
        ("secret", f'"{SECRET}"'),
        ("addresses", '["10.42.1.1/24"]'),
    ):
        lines = [
            f"{key} = {value}" if line.startswith(f"{key} =") else line for line in out.splitlines()
        ]
        out = "\n".join(lines)
    path = write(out)
    assert run("config", "check", path) == (0, f"{path}: good\n", "")


def test_the_example_of_what_is_installed_is_good(run: Run, write: Write) -> None:
    out = run("config", "example").out
    document = tomllib.loads(out)
    assert "shouter" not in document["plugins"]
    path = write(out.replace("networks = []", 'networks = ["10.42.0.0/16"]'))
    err = run("config", "check", path, "--set", "plugins.enabled=['shouter']").err
    assert err.startswith(f"{path}: mesh.secret_file: is required")


def test_the_example_of_a_plugin_that_is_missing(run: Run) -> None:
    assert run("config", "example", "--plugins", "shoter") == (
        2,
        "",
        "tunmesh: plugin shoter: is not installed, did you mean shouter?\n",
    )


def test_a_good_configuration(run: Run, write: Write) -> None:
    path = write(GOOD)
    assert run("config", "check", path) == (0, f"{path}: good\n", "")


def test_check_finds_everything_in_one_run(run: Run, write: Write) -> None:
    path = write(
        """
        [mesh]
        namee = "x"
        [node]
        addresses = ["10.42.0.1"]
        [plugins]
        enabled = ["shouter", "broken", "missing"]
        [plugins.shouter]
        volume = 12
        volum = 1
        [plugins.shuoter]
        """
    )
    code, out, err = run("config", "check", path)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert [line.removeprefix(f"{path}: ") for line in lines] == [
        "mesh.namee: unknown key, did you mean name?",
        'node.addresses[0]: "10.42.0.1" lacks the length of its prefix: write "10.42.0.1/N"',
        'mesh.networks: is required, as networks = ["10.42.0.0/16"]',
        (
            "mesh.secret_file: is required, or mesh.secret or $TUNMESH_SECRET: "
            "`tunmesh secret generate` makes one"
        ),
        "plugins.enabled: plugin broken (from shouter): import failed: OSError: no luck",
        "plugins.enabled: plugin missing: is not installed",
        "plugins.shuoter: no plugin shuoter is installed, did you mean shouter?",
        "plugins.shouter.volum: unknown key, did you mean volume?",
        "plugins.shouter.volume: expected an integer <= 11",
    ]


def test_check_needs_a_transport(run: Run, write: Write) -> None:
    err = run("config", "check", write(GOOD), "--set", "plugins.enabled=[]").err
    assert err.startswith("--set: plugins.enabled: no plugin fills the role transport")


def test_check_warns(run: Run, write: Write) -> None:
    path = write(GOOD.replace('addresses = ["10.42.0.1/24"]', "").replace(SECRET, "a" * 32))
    Path(path).chmod(0o644)
    code, out, err = run("config", "check", path)
    assert (code, out) == (0, f"{path}: good\n")
    assert [line.removeprefix(f"{path}: warning: ")[:20] for line in err.splitlines()] == [
        "mesh.secret stands i",
        "mesh.secret is easy ",
        "node.addresses: empt",
    ]


def test_show_is_what_is_in_force(run: Run, write: Write) -> None:
    path = write(
        GOOD + "[plugins.shouter]\npassword = 'topsecret'\n[plugins.broken]\ntoken = 'x'\n"
    )
    code, out, err = run("config", "show", "-c", path, "--set", "log.level=debug")
    assert (code, err) == (0, "")
    assert SECRET not in out
    assert "topsecret" not in out
    document = tomllib.loads(out)
    assert document["mesh"]["secret"] == "***"
    assert document["log"]["level"] == "debug"
    plugins = document["plugins"]
    assert plugins["enabled"] == ["shouter"]
    assert plugins["shouter"] == {"volume": 5, "password": "***"}
    assert plugins["broken"] == {"token": "***"}


def test_show_tells_that_the_secret_comes_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNMESH_SECRET", SECRET)
    out = run("config", "show").out
    assert tomllib.loads(out)["mesh"]["secret"] == "***"
    assert SECRET not in out


def test_show_refuses_what_is_wrong(run: Run, write: Write) -> None:
    path = write("[plugins]\nenabled = ['shouter']\n[plugins.shouter]\nvolume = 'x'\n")
    assert run("config", "show", "-c", path) == (
        2,
        "",
        f"tunmesh: {path}: plugins.shouter.volume: expected an integer, got a string\n",
    )


def test_the_schema_has_the_tables_of_installed_plugins(run: Run) -> None:
    code, out, _ = run("config", "schema")
    assert code == 0
    tables = json.loads(out)["properties"]["plugins"]["properties"]
    assert tables["shouter"] == {"type": "object"}  # not selected, so not imported
    out = run("config", "schema", "--plugins", "shouter").out
    tables = json.loads(out)["properties"]["plugins"]["properties"]
    assert tables["shouter"]["properties"]["volume"]["default"] == 5


PREDECESSOR = """
tun_mesh:
  config_version: 1.1
  clustering: {bootstrap_groups: {seeds: {bootstrap_node_urls: [https://192.0.2.1:4567]}}}
  networking: {ipv4: {network_cidr: 10.42.0.0/16, node_address_cidr: 10.42.1.1/24}}
  process: {uid: 1000, ipc: {group: {max_init_attempts: 3}}}
"""


def test_a_configuration_of_the_predecessor_is_translated(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "tun_mesh.yaml", tmp_path / "tunmesh.toml"
    old.write_text(PREDECESSOR)
    done = run("config", "import", str(old))
    assert done.code == 0
    assert done.err.startswith(f"{old}: warning: process.ipc.group.max_init_attempts ")
    new.write_text(done.out)
    secret = tmp_path / "mesh.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    assert run("config", "check", str(new), "--set", "node.user=").code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"a: [", "not YAML"),
        (b"a: 1", "has no"),
    ],
)
def test_what_cannot_be_translated_is_told_in_one_line(
    run: Run, tmp_path: Path, content: bytes | None, message: str
) -> None:
    old = tmp_path / "tun_mesh.yaml"
    if content is not None:
        old.write_bytes(content)
    code, out, err = run("config", "import", str(old))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert str(old) in err


def test_yaml_is_read_only_where_it_is_needed() -> None:
    program = "import sys, tunmesh.cli.config; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
