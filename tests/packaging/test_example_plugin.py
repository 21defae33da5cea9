"""A stranger's plugin: built, installed beside the wheels of tunmesh, used, and removed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.installation import Installation, build

EXAMPLE = Path(__file__).parent / "example_plugin"

pytestmark = pytest.mark.timeout(180)

#: Two of its transports in one process, with the tools that tunmesh ships for plugins' tests.
EXCHANGE = """
import anyio
from tunmesh.testing import FakeTransportContext
from tunmesh_example_tcp import Options, TcpTransport


async def until(condition):
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def main():
    async with anyio.create_task_group() as tasks:
        options = Options(listen="127.0.0.1:0")
        a, b = (FakeTransportContext(options, name="tcp", tasks=tasks) for _ in range(2))
        async with TcpTransport(a) as here, TcpTransport(b) as there:
            path = here.connect(there.local_endpoints()[0])
            assert here.send(path, [b"x" * 100, b"y" * 50], 60)
            await until(lambda: len(b.inbound.received) == 3)
            assert b"".join(b.inbound.datagrams()) == b"x" * 100 + b"y" * 50
            assert here.connect(path.endpoint) is path
            back = b.inbound.received[0].handle
            assert there.send(back, [b"answer"], 60)
            await until(lambda: a.inbound.received)
            assert a.inbound.received == [(path, b"answer", 6)]
            there.release(back)
            await until(lambda: a.inbound.closed and b.inbound.closed)
            assert here.send(path, [b"again"], 60)
            await until(lambda: len(b.inbound.received) == 4)
    print("exchanged")


anyio.run(main)
"""


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
    assert installation.succeed("python", "-c", EXCHANGE) == "exchanged\n"

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
