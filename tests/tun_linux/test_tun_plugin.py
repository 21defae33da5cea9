"""The hooks, and what the options accept."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import msgspec
import pytest

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


def test_importing_the_plugin_is_cheap() -> None:
    program = (
        "import sys, tunmesh_tun_linux.plugin; "
        "print(*sorted({'anyio', 'asyncio', 'pyroute2', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_auto_mtu() -> None:
    (registration,) = plugin.tunmesh_tun_backends()
    assert registration.factory(FakeTunContext(Options())).mtu == 1400


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"device": "tun1", "mtu": "auto", "routes": [], "txqueuelen": 500},
        {"device": "a.b-c_d+e@f=0123", "mtu": 1280} | {"device": "a.b-c_d+e@f=012"},
        {"mtu": 65000, "routes": ["192.0.2.0/24", "2001:db8::/32"]},
    ],
)
def test_accepted_options(table: dict[str, Any]) -> None:
    assert isinstance(msgspec.convert(table, Options), Options)


@pytest.mark.parametrize(
    "table",
    [
        {"device": ""},
        {"device": "sixteen-letters-"},
        {"device": "a/b"},
        {"device": "a b"},
        {"device": "tun%d"},
        {"mtu": 1279},
        {"mtu": 65001},
        {"mtu": "large"},
        {"txqueuelen": 0},
        {"unknown": 1},
    ],
)
def test_refused_options(table: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Options)
