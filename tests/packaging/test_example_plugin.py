"""A stranger's plugin: built, installed beside the wheels of tunmesh, used, and removed again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging.installation import Installation, build

EXAMPLE = Path(__file__).parent / "example_plugin"

pytestmark = pytest.mark.timeout(180)

#: What its author writes to have it tested.
CONFORMANCE = """
from tunmesh.testing.conformance import TransportConformance


class TestTcp(TransportConformance):
    plugin = "tcp"

    def settings(self, port, folder):
        return {"listen": f"127.0.0.1:{port}"}
"""


PYTEST = ("--quiet", "--disable-plugin-autoload", "-panyio", "-pno:cacheprovider", "--tb=short")


def test_a_strangers_plugin_is_installed_used_and_removed(
    installation: Installation, tmp_path: Path
) -> None:
    installation.pip("install", "--no-deps", "--no-index", str(build(EXAMPLE, tmp_path)))
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
    (installation.folder / "test_tcp.py").write_text(CONFORMANCE)
    tested = installation.succeed("python", "-m", "pytest", *PYTEST, "test_tcp.py")
    assert re.search(r"^\d\d passed in", tested, re.MULTILINE), tested

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
