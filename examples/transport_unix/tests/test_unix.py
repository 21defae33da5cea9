"""What is special about sockets in the file system; the kit tests the rest."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tunmesh.plugin import EndpointError, TransportError
from tunmesh.testing import FakeTransportContext
from tunmesh.testing.conformance import TransportConformance
from tunmesh_transport_unix.plugin import Options
from tunmesh_transport_unix.transport import UnixTransport

pytestmark = pytest.mark.anyio


class TestUnix(TransportConformance):
    plugin = "unix"
    over_ip = False

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": str(folder / f"{port}.sock")}


def transport(path: Path) -> tuple[UnixTransport, FakeTransportContext]:
    context = FakeTransportContext(Options(listen=str(path)), name="unix")
    return UnixTransport(context), context


async def test_the_socket_of_a_killed_node_is_replaced_and_ours_removed(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(path))
    left.close()
    made, _ = transport(path)
    async with made:
        assert made.local_endpoints() == (f"unix://{path}",)
    assert not path.exists()


async def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    with pytest.raises(TransportError, match=r"no socket \(plugins.unix.listen\)"):
        await transport(path)[0].__aenter__()
    assert path.read_text() == "precious"


async def test_a_socket_that_took_our_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    made, _ = transport(path)
    async with made:
        path.unlink()
        other, _ = transport(path)
        await other.__aenter__()
    assert path.exists()
    await other.__aexit__(None, None, None)


@pytest.mark.parametrize("name", ["x" * 120, "with space", "umläut"])
async def test_paths_that_are_no_endpoints_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransportError, match="cannot listen on"):
        await transport(tmp_path / name)[0].__aenter__()
    with pytest.raises(EndpointError):
        await transport(tmp_path / "a")[0].resolve(f"unix:///{name}")


async def test_senders_without_a_path_are_not_heard(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    made, context = transport(path)
    async with made:
        for name in ("", "\0abstract"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
                if name:
                    stranger.bind(name + path.parent.name)
                stranger.sendto(b"hello", str(path))
        context.reactor.poll()
        assert context.inbound.received == []
        assert made.statistics() == {"nameless": 2}


async def test_a_receiver_that_does_not_read_fills_a_queue(tmp_path: Path) -> None:
    made, _ = transport(tmp_path / "a.sock")
    other, _ = transport(tmp_path / "b.sock")
    async with made, other:
        path = made.connect(other.local_endpoints()[0])
        assert not all(made.send(path, [bytes(1000)], 1000) for _ in range(5000))
    async with made:
        assert made.send(path, [b"nobody"], 6)
        assert made.statistics() == {"send_enoent": 1}
