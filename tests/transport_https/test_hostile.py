"""Strangers: nothing that they do costs more than their own connection."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.streams.tls
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from tests.transport_https.nodes import Node, careless, started, until
from tunmesh_transport_https import admission
from tunmesh_transport_https.certificates import digest
from tunmesh_transport_https.server import MOST_HEADER, MOST_OF_SOURCE, MOST_STRANGERS

UPGRADE = {
    "Host": "node",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


@asynccontextmanager
async def visit(node: Node) -> AsyncIterator[TLSStream]:
    """A TLS connection of somebody to a node."""
    stream = await anyio.connect_tcp(
        "127.0.0.1", node.port, ssl_context=careless(), tls_standard_compatible=False
    )
    try:
        yield stream
    finally:
        with contextlib.suppress(anyio.BrokenResourceError):
            await stream.aclose()


async def everything(stream: ByteStream) -> bytes:
    data = b""
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        with anyio.fail_after(5):
            while True:
                data += await stream.receive()
    return data


def request(path: str, method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def ask(node: Node, path: str, *, token: str = "", method: str = "GET") -> bytes:
    async with visit(node) as stream:
        headers = {**UPGRADE, **({"Authorization": f"Bearer {token}"} if token else {})}
        await stream.send(request(path, method, **headers))
        return await everything(stream)


def good_token(node: Node, member: Node, path: str, **changes: Any) -> str:
    (certificate, *_) = node.transport._certificates.digests
    claims = {**admission.request_claims(path, certificate), **changes}
    return member.context.issue_token("request", claims).text


async def test_all_refusals_look_alike_whatever_is_asked() -> None:
    async with started({}, {}) as (node, member):
        stream, info = admission.STREAM_PATH, admission.NODE_PATH
        answers = {
            await ask(node, stream),
            await ask(node, info),
            await ask(node, "/"),
            await ask(node, "/metrics"),
            await ask(node, stream, token="x"),
            await ask(node, stream, token="x" * 5000),
            await ask(node, stream, token=good_token(node, member, info)),
            await ask(node, "/metrics", token=good_token(node, member, "/metrics")),
            await ask(node, stream, token=good_token(node, member, stream), method="PUT"),
            await ask(node, stream, token=good_token(node, member, stream, cb="x")),
            await ask(node, stream, token=good_token(node, member, stream, bh="x")),
            await ask(node, stream, token=good_token(node, member, stream, aud="x")),
        }
        assert len(answers) == 1
        (answer,) = answers
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert answer.endswith(b"\r\n\r\nunauthorized\n")
        assert node.counts == {"refused_token": 12}
        assert not node.inbound.received
        token = good_token(node, member, info)
        assert (await ask(node, info, token=token)).startswith(b"HTTP/1.1 200")


async def test_a_token_is_good_once_on_any_connection() -> None:
    async with started({}, {}) as (node, member):
        token = good_token(node, member, admission.NODE_PATH)
        assert (await ask(node, admission.NODE_PATH, token=token)).startswith(b"HTTP/1.1 200")
        assert (await ask(node, admission.NODE_PATH, token=token)).startswith(b"HTTP/1.1 401")


async def test_a_token_of_another_time_is_told_a_nonce() -> None:
    async with started({}, {}) as (node, member):
        token = good_token(node, member, admission.NODE_PATH)
        node.clock.advance(1000)
        answer = await ask(node, admission.NODE_PATH, token=token)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b'{"nonce":"' in answer


async def test_a_token_of_one_node_is_of_no_use_at_another() -> None:
    async with started({}, {}, {}) as (node, other, member):
        token = good_token(node, member, admission.STREAM_PATH)
        assert (await ask(other, admission.STREAM_PATH, token=token)).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/9\r\n\r\n", "refused_http"),
        (b"\0" * 100 + b"\r\n\r\n", "refused_http"),
        (request("/", Content_Length="70000"), "refused_http"),
        (request("/", Transfer_Encoding="chunked"), "refused_http"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MOST_HEADER, "refused_size"),
        (request("/", **{f"h{n}": "v" * 100 for n in range(100)}), "refused_size"),
    ],
    ids=["version", "zeros", "body", "chunked", "long header", "many headers"],
)
async def test_what_is_no_request_is_not_answered(data: bytes, reason: str) -> None:
    async with started({}) as (node,), visit(node) as stream:
        await stream.send(data)
        assert await everything(stream) == b""
        assert node.counts == {reason: 1}


async def test_tls_below_1_3_and_plain_text_are_refused() -> None:
    async with started({}) as (node,):
        old = careless()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, anyio.BrokenResourceError)):
            await anyio.connect_tcp("127.0.0.1", node.port, ssl_context=old)
        async with await anyio.connect_tcp("127.0.0.1", node.port) as plain:
            await plain.send(request("/"))
            await everything(plain)
        await until(lambda: node.counts == {"refused_tls": 2})


async def test_who_takes_too_long_has_to_go() -> None:
    async with started({}) as (node,):
        async with await anyio.connect_tcp("127.0.0.1", node.port) as silent:
            await until(lambda: len(node.transport._server) == 1)
            async with visit(node) as slow:
                await slow.send(b"GET / HT")
                node.clock.advance(10.5)
                assert await everything(silent) == b""
                assert await everything(slow) == b""
        assert node.counts == {"refused_slow": 2}
        assert len(node.transport._server) == 0


def _garbage(sock: socket.socket) -> None:
    sock.sendall(os.urandom(300))


def _half_hello(sock: socket.socket) -> None:
    sock.sendall(bytes.fromhex("16030102000100"))


def _reset(sock: socket.socket) -> None:
    sock.sendall(bytes.fromhex("1603010200"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _silence(sock: socket.socket) -> None:
    pass


async def test_five_hundred_strangers_cost_a_member_nothing() -> None:
    async with started({}, {}) as (node, member):
        there = member.path_to(node)
        await member.answered_by(node, there)
        kinds = (_garbage, _half_hello, _reset, _silence)
        strangers = []
        for number in range(500):
            sock = socket.socket()
            sock.setblocking(False)
            # Of many sources, so that it is not the limit for one that protects.
            sock.bind((f"127.0.{number % 50}.1", 0))
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", node.port))
            strangers.append(sock)
            if number % 20 == 0:
                await member.answered_by(node, there)
        await anyio.sleep(0.05)
        for number, sock in enumerate(strangers):
            with contextlib.suppress(OSError):  # it was dismissed already
                kinds[number % len(kinds)](sock)
            if number % 20 == 0:
                await member.answered_by(node, there)
        with anyio.fail_after(1.0):
            await member.transport.resolve(node.url)
        assert len(node.transport._server) <= MOST_STRANGERS
        assert node.counts["refused_crowded"] > 300
        for sock in strangers:
            sock.close()
        await until(lambda: not len(node.transport._server))


async def test_one_source_takes_no_more_than_its_share() -> None:
    async with started({}) as (node,):
        strangers = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(30)]
        await until(lambda: node.counts.get("refused_crowded") == 30 - MOST_OF_SOURCE)
        assert len(node.transport._server) == MOST_OF_SOURCE
        for sock in strangers:
            sock.close()


async def test_who_ends_tls_in_between_is_found_out() -> None:
    """Its own certificate is in the token of the victim."""
    async with started({}, {}, {}) as (node, member, middle):
        (theirs, *_) = middle.transport._certificates.digests
        token = good_token(node, member, admission.STREAM_PATH, cb=theirs)
        assert (await ask(node, admission.STREAM_PATH, token=token)).startswith(b"HTTP/1.1 401")
        async with visit(node) as stream:
            own = stream.extra(anyio.streams.tls.TLSAttribute.peer_certificate_binary)
            assert own is not None
            assert digest(own) in node.transport._certificates.digests
