"""The hooks, and what the options accept."""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tunmesh.cli import main
from tunmesh.testing import FakeTunContext
from tunmesh_tun_linux import plugin
from tunmesh_tun_linux.options import Options


def test_offers_one_backend() -> None:
    (registration,) = plugin.tunmesh_tun_backends()
    assert registration.options is Options
    tun = registration.factory(FakeTunContext(Options(device="mesh0", mtu=9000)))
    assert (tun.name, tun.mtu, tun.offloads) == ("mesh0", 9000, frozenset())


def test_adds_the_demo() -> None:
    parser = argparse.ArgumentParser()
    plugin.tunmesh_add_commands(parser.add_subparsers())
    args = parser.parse_args(["demo", "--nodes", "4", "--keep", "--plugins", "tun_linux,udp"])
    assert (args.nodes, args.keep, args.plugins) == (4, True, "tun_linux,udp")


def test_adds_the_setup_of_devices() -> None:
    parser = argparse.ArgumentParser()
    plugin.tunmesh_add_commands(parser.add_subparsers())
    args = parser.parse_args(["tun", "setup", "--owner", "1000", "--address", "10.42.1.1/24"])
    assert (args.owner, args.device, args.address) == ("1000", "tun1", ["10.42.1.1/24"])


@pytest.mark.parametrize("module", ["plugin", "ifaddr"])
def test_importing_the_plugin_is_cheap(module: str) -> None:
    program = (
        f"import sys, tunmesh_tun_linux.{module}; "
        "print(*sorted({'anyio', 'asyncio', 'pyroute2', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_auto_mtu() -> None:
    (registration,) = plugin.tunmesh_tun_backends()
    assert registration.factory(FakeTunContext(Options())).mtu == 1400


def check(directory: Path, table: str) -> int:
    """What ``tunmesh config check`` says of the plugin's table."""
    path = directory / "mesh.toml"
    path.write_text(
        '[mesh]\nnetworks = ["10.77.0.0/16"]\nsecret_file = "mesh.secret"\n'
        '[node]\naddresses = ["10.77.0.1/24"]\n'
        f'[plugins]\nenabled = ["tun_linux", "udp"]\n[plugins.tun_linux]\n{table}\n'
    )
    secret = directory / "mesh.secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdefghijklmnopqrstuvwxyz-ABCDEF")
    return main(["config", "check", str(path)])


@pytest.mark.parametrize(
    "table",
    [
        "",
        'device = "a.b-c_d+e@f=012"',
        'mtu = "auto"',
        "mtu = 1280",
        "mtu = 65000",
        "txqueuelen = 1000",
        'routes = ["192.0.2.0/24", "2001:db8::/32"]',
        "fd = 3",
        'up = ["ip rule show ${X}", ["ip", "rule", "add"]]\ndown = ["true"]',
    ],
)
def test_accepted_options(table: str, tmp_path: Path) -> None:
    assert check(tmp_path, table) == 0


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('device = ""', "device: "),
        ('device = "sixteen-letters-"', "up to 15 letters"),
        ('device = "a/b"', "up to 15 letters"),
        ('device = "tun%d"', "up to 15 letters"),
        ("mtu = 1279", "mtu: expected an integer >= 1280"),
        ("mtu = 65001", "mtu: "),
        ('mtu = "large"', 'mtu: expected "auto" or an integer'),
        ("txqueuelen = 0", "txqueuelen: "),
        ('routes = ["10.0.0.1/8"]', 'write "10.0.0.0/8"'),
        ("unknown = 1", "unknown"),
        ("fd = -2", "fd: "),
        ("up = [[]]", "up[0]: "),
        ("up = [3]", "up[0]: "),
        ('up = "true"', 'write ["true"]'),
    ],
)
def test_refused_options(
    table: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, table) == 2
    error = capsys.readouterr().err
    assert "plugins.tun_linux." in error
    assert problem in error


def test_debug_does_not_tell_of_each_netlink_message() -> None:
    importlib.import_module("tunmesh_tun_linux.device")
    assert not logging.getLogger("pyroute2.netlink.core").isEnabledFor(logging.DEBUG)
