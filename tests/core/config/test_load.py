from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunmesh.config import (
    DEFAULT_PLUGINS,
    Config,
    ConfigErrors,
    Duration,
    Subnet,
    load_config,
    read_config,
)
from tunmesh.config import load as load_module

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        path = tmp_path / "x.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def no_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "DEFAULT_PATH", str(tmp_path / "absent.toml"))


def load(path: str | None = None, *sets: str, **more: Any) -> Config:
    return load_config(path, sets=sets, **{"environ": {}, **more})


def problems(path: str | None = None, *sets: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(path, *sets, **more)
    prefix = f"{path}: "
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def test_a_missing_default_file_is_an_empty_one() -> None:
    config = load()
    assert config.path == ""
    assert config.plugins.enabled == DEFAULT_PLUGINS
    assert not config.explicit_plugins
    assert config.timing.keepalive == Duration("2s")


def test_the_host_name_is_the_default_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Web_1.example.org")
    assert load().node.name == "web-1"


@pytest.mark.parametrize(
    ("text", "name"), [("A", "a"), ("a.b.c", "a"), ("x" * 70, "x" * 63), ("é1-", "1")]
)
def test_a_name_becomes_a_label(text: str, name: str) -> None:
    assert load(None, f'node.name="{text}"').node.name == name


def test_a_name_must_leave_something() -> None:
    assert problems(None, 'node.name=".a"') == [
        '--set: node.name: ".a" has no letter or digit before its first dot'
    ]


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    assert problems(path) == ["no such file"]
    assert problems(environ={"TUNMESH_CONFIG": path}) == [f"{path}: no such file"]


def test_the_environment_names_the_file(write: Write) -> None:
    path = write("mesh.name = 'x'")
    assert load(environ={"TUNMESH_CONFIG": path}).mesh.name == "x"
    assert load(environ={"TUNMESH_CONFIG": path}).path == path
    assert load(environ={"TUNMESH_CONFIG": ""}).path == ""


def test_what_is_no_toml_is_one_line(write: Write, tmp_path: Path) -> None:
    (line,) = problems(write("a = \nb = 1"))
    assert line.startswith("not TOML: ")
    assert "line 1" in line
    (tmp_path / "x.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    assert problems(str(tmp_path / "x.toml")) == ["not UTF-8 (line 2)"]
    assert problems(str(tmp_path)) == ["cannot be read: Is a directory"]


def test_everything_is_typed(write: Write) -> None:
    config = load(
        write(
            """
            [mesh]
            name = "prod"
            networks = ["10.42.0.0/16", "fd42::/48"]
            [node]
            addresses = ["10.42.1.1/24", "fd42:0:0:1::1/64", "fe80::1/64"]
            subnets = ["192.168.7.0/24", {prefix = "192.168.8.0/24", metric = 10}]
            advertise = ["udp://203.0.113.7:4567", "udp://[2001:db8::1]:4567"]
            state_dir = "state"
            [plugins.udp]
            listen = ["${X}"]
            [bootstrap.seeds]
            urls = ["udp://198.51.100.1:4567", "https://lb.example.com"]
            retries = "${RETRIES:-3}"
            [bootstrap.none]
            urls = []
            [timing]
            keepalive = "1s..2s"
            """
        )
    )
    assert [str(network) for network in config.mesh.networks] == ["10.42.0.0/16", "fd42::/48"]
    assert config.node.subnets[0] == Subnet(config.node.subnets[0].prefix, 0)
    assert config.node.subnets[1].metric == 10
    assert config.node.state_dir == str(Path(config.path).parent / "state")
    assert config.plugins.tables == {"udp": {"listen": ["${X}"]}}
    assert config.bootstrap["seeds"].retries == 3
    assert config.bootstrap["none"].urls == ()
    assert config.timing.keepalive == Duration("1s..2s")
    assert "bootstrap.seeds.retries" in config.from_environment


def test_all_problems_are_found_in_one_run(write: Write) -> None:
    path = write(
        """
        [mesh]
        namee = "x"
        networks = ["10.42.0.1/16"]
        [node]
        addresses = "10.42.1.1/24"
        [plugin.udp]
        [plugins]
        enabledd = ["udp"]
        [log]
        level = "inof"
        """
    )
    assert problems(path, "timing.keepalive=x") == [
        "plugin: unknown key, did you mean plugins?",
        "mesh.namee: unknown key, did you mean name?",
        'mesh.networks[0]: "10.42.0.1/16" has bits beyond its length: write "10.42.0.0/16"',
        'node.addresses: expected an array, got a string: write ["10.42.1.1/24"]',
        (
            '--set: timing.keepalive: "x" is not a duration: write a number of seconds, '
            'or "250ms", "10s", "5m", "1h", "1d", or a range "10s..20s"'
        ),
        (
            'log.level: expected "debug" or "info" or "warning" or "error", got "inof", '
            "did you mean info?"
        ),
        "plugins.enabledd: unknown key, did you mean enabled?",
    ]


def test_what_is_right_beside_a_problem_is_kept(write: Write) -> None:
    config, found = read_config(write("[mesh]\nname = 'x'\neager_peers = 0\n"), environ={})
    assert len(found) == 1
    assert config.mesh.name == "x"
    assert config.mesh.eager_peers == 64


def test_tables_must_be_tables() -> None:
    assert problems(None, "mesh=1", "plugins=1", "bootstrap.a=1") == [
        "--set: plugins: expected a table, got an integer",
        "--set: mesh: expected a table, got an integer",
        "--set: bootstrap.a: expected a table, got an integer",
    ]
    assert problems(None, "plugins.udp=1") == [
        "--set: plugins.udp: unknown key: a plugin's options are a table"
    ]
    assert problems(None, "log=1", "log.level=info") == [
        "--set: log.level: log is not a table",
        "--set: log: expected a table, got an integer",
    ]


def test_sets_take_toml_or_else_text(write: Write) -> None:
    path = write("[mesh]\nname = 'file'\n")
    config = load(
        path,
        "mesh.name=hello",
        'node.addresses=["10.0.0.1/8"]',
        "mesh.networks=['10.0.0.0/8']",
        "routing.broadcast=false",
        'bootstrap."a b".urls=["udp://[::1]:1"]',
        "node.state_dir=here",
        "timing.keepalive=3s",
    )
    assert config.mesh.name == "hello"
    assert config.node.addresses == ("10.0.0.1/8",)
    assert config.routing.broadcast is False
    assert config.bootstrap["a b"].urls == ("udp://[::1]:1",)
    assert config.node.state_dir == str(Path.cwd() / "here")
    assert config.timing.keepalive == Duration("3s")


@pytest.mark.parametrize("text", ["mesh.name", "=x", "a..b=1", "[a]\n[b]\nc=1"])
def test_sets_need_a_key_and_a_value(text: str) -> None:
    assert "write --set key.path=value" in problems(None, text)[0]


def test_a_set_value_cannot_bring_other_keys() -> None:
    assert load(None, 'mesh.name=1\n[log]\nlevel="debug"').log.level == "info"


@pytest.mark.parametrize("text", ["mesh.secret=topsecret", 'mesh={secret="topsecret"}'])
def test_a_secret_on_the_command_line_is_refused_and_not_told(text: str) -> None:
    (problem,) = problems(None, text)
    assert problem.startswith("--set: mesh.secret: a secret on the command line")
    assert "topsecret" not in problem


def test_named_plugins_are_explicit(write: Write) -> None:
    path = write("[plugins]\nenabled = ['a', 'b']\n[plugins.a]\nx = 1\n")
    config = load(path)
    assert config.plugins.enabled == ("a", "b")
    assert config.explicit_plugins
    assert config.plugins.tables == {"a": {"x": 1}}
    config = load(path, plugins="c, d")
    assert config.plugins.enabled == ("c", "d")
    assert load(None, 'plugins.enabled=["e"]').explicit_plugins
    assert load(None, "plugins.enabled=[]").plugins.enabled == ()


def test_a_plugin_is_named_once() -> None:
    assert problems(plugins="a,b,a") == ['--plugins: plugins.enabled: "a" is named more than once']


def test_plugins_that_are_no_list_of_names() -> None:
    config, found = read_config(None, sets=["plugins.enabled=udp"], environ={})
    assert [str(problem) for problem in found] == [
        '--set: plugins.enabled: expected an array, got a string: write ["udp"]'
    ]
    assert not config.explicit_plugins


def test_a_complete_configuration_has_networks() -> None:
    assert problems(complete=True) == ['mesh.networks: is required, as networks = ["10.42.0.0/16"]']
    load(None, 'mesh.networks=["10.0.0.0/8"]', complete=True)


def test_problems_stay_on_one_line() -> None:
    (problem,) = problems(None, 'mesh.networks=["a\\nb"]')
    assert '"a\\nb"' in problem
