"""Through what stands in between: nginx as it comes from Debian, and CONNECT proxies."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from tests.pki import NGINX, make
from tests.pki import nginx as nginx_command
from tests.transport_https.nodes import Node, free_port, started, until
from tunmesh.plugin import EndpointError

needs_nginx = pytest.mark.skipif(
    NGINX is None and os.geteuid() != 0, reason="nginx is not installed"
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a certificate for nginx."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        make(path)
        yield path


@asynccontextmanager
async def nginx(directory: Path, nodes: Sequence[Node]) -> AsyncIterator[str]:
    """The URL of an nginx before some nodes, to whom it gives connections in turn."""
    port = free_port()
    command = nginx_command(
        directory, "127.0.0.1", port, (f"127.0.0.1:{node.port}" for node in nodes)
    )
    process = await anyio.open_process(command, stdout=None, stderr=subprocess.DEVNULL)
    try:
        await until(lambda: _listens(port))
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@needs_nginx
async def test_through_a_reverse_proxy_that_ends_tls(directory: Path) -> None:
    external = {"options": {"external_cert_file": f"{directory}/127.0.0.1.pem"}}
    async with started(external, {}) as (node, member), nginx(directory, [node]) as url:
        assert await member.transport.resolve(url) == (node.endpoint, url)
        there = member.path_to(url)
        await member.answered_by(node, there)
        back = node.inbound.received[0].handle
        for size in (1, 1400, 65551):
            member.send(there, bytes([size % 251]) * size)
            node.send(back, bytes([size % 241]) * size)
        assert (await node.received(4))[1:] == [bytes([n % 251]) * n for n in (1, 1400, 65551)]
        assert (await member.received(4))[1:] == [bytes([n % 241]) * n for n in (1, 1400, 65551)]


@needs_nginx
async def test_a_reverse_proxy_that_is_not_named_is_an_attack(directory: Path) -> None:
    async with started({}, {}) as (node, member), nginx(directory, [node]) as url:
        with pytest.raises(EndpointError, match="something in between ends TLS"):
            await member.transport.resolve(url)
        assert node.counts == {"refused_token": 1}


@needs_nginx
async def test_behind_a_load_balancer_whoever_answers_is_dialled_from_then_on(
    directory: Path,
) -> None:
    external = {"options": {"external_cert_file": f"{directory}/127.0.0.1.pem"}}
    async with (
        started(external, external, external, {}) as (*nodes, member),
        nginx(directory, nodes) as url,
    ):
        answered = set()
        for _ in range(6):
            told, via = await member.transport.resolve(url)
            assert via == url
            (node,) = (node for node in nodes if node.endpoint == told)
            answered.add(node)
            await member.answered_by(node, member.path_to(told))
        assert answered == set(nodes)


@asynccontextmanager
async def connect_proxy(*, credentials: str = "", status: int = 200) -> AsyncIterator[list[str]]:
    """A CONNECT proxy: its port as the first item, then what it was asked for."""
    asked: list[str] = []

    async def serve(client: SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive()
        lines = head.decode().split("\r\n")
        asked.append(lines[0])
        expected = base64.b64encode(credentials.encode()).decode()
        if credentials and f"Proxy-Authorization: Basic {expected}" not in lines:
            await client.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        await client.send(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode())
        if status != 200:
            return
        host, _, port = lines[0].split()[1].rpartition(":")
        async with (
            await anyio.connect_tcp(host, int(port)) as target,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_copy, client, target, tasks.cancel_scope)
            tasks.start_soon(_copy, target, client, tasks.cancel_scope)

    async def handle(client: SocketStream) -> None:
        async with client:
            await serve(client)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        asked.append(str(listener.extra(anyio.abc.SocketAttribute.local_port)))
        yield asked
        tasks.cancel_scope.cancel()


async def _copy(source: SocketStream, target: SocketStream, scope: anyio.CancelScope) -> None:
    try:
        async for data in source:
            await target.send(data)
    except anyio.BrokenResourceError:
        pass
    scope.cancel()


async def test_through_a_connect_proxy() -> None:
    async with connect_proxy(credentials="user:pass word") as asked:
        proxy = {"options": {"proxy": f"http://user:pass%20word@127.0.0.1:{asked[0]}"}}
        async with started({}, proxy) as (node, member):
            there = member.path_to(node)
            await member.answered_by(node, there)
            member.send(there, bytes(65551), b"end")
            assert (await node.received(3))[1:] == [bytes(65551), b"end"]
            assert asked[1:] == [f"CONNECT 127.0.0.1:{node.port} HTTP/1.1"]


async def test_the_proxy_looks_up_names() -> None:
    async with connect_proxy() as asked:
        proxy = {"options": {"proxy": f"http://127.0.0.1:{asked[0]}"}}
        async with started({}, proxy) as (node, member):
            await member.transport.resolve(f"https://localhost:{node.port}")
            assert asked[1:] == [f"CONNECT localhost:{node.port} HTTP/1.1"]


@pytest.mark.parametrize("settings", [{"credentials": "a:b"}, {"status": 403}, {"status": 502}])
async def test_a_proxy_that_refuses_is_named(settings: dict[str, object]) -> None:
    async with connect_proxy(**settings) as asked:  # type: ignore[arg-type]
        proxy = {"options": {"proxy": f"http://127.0.0.1:{asked[0]}"}}
        async with started({}, proxy) as (node, member):
            with pytest.raises(EndpointError, match=r"the proxy 127\.0\.0\.1 does not connect"):
                await member.transport.resolve(node.url)


async def test_a_proxy_that_is_not_there_is_told() -> None:
    proxy = {"options": {"proxy": f"http://127.0.0.1:{free_port()}"}}
    async with started({}, proxy) as (node, member):
        with pytest.raises(EndpointError, match="connection refused"):
            await member.transport.resolve(node.url)
