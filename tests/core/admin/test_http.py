from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.admin import http
from tunmesh.admin.http import Answer, HttpServer, host_allowed, port_of
from tunmesh.errors import AdminError

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def page(accept: str) -> Answer:
    return Answer(200, f"hello {accept}".encode(), "text/plain")


def broken(_: str) -> Answer:
    raise LookupError("a secret of the page")


@asynccontextmanager
async def serving(*, hosts: tuple[str, ...] = (), timeout: float = 5.0) -> AsyncIterator[int]:  # noqa: ASYNC109
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    server = HttpServer({"/": page, "/broken": broken}, hosts, timeout=timeout)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        yield port_of(listener)
        tasks.cancel_scope.cancel()


async def exchange(port: int, request: bytes, *, finish: bool = True) -> bytes:
    """Everything that is answered until the connection ends."""
    answer = b""
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(request)
            if finish:
                await stream.send_eof()
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return answer


async def test_a_page_is_answered_and_told_what_is_accepted() -> None:
    async with serving() as port:
        answer = await exchange(port, GET.replace(b"\r\n\r\n", b"\r\nAccept: text/x\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/plain" in head.lower()
    assert body == b"hello text/x"


async def test_a_connection_carries_several_requests() -> None:
    async with serving() as port:
        answer = await exchange(port, GET + GET + GET)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"hello ") == 3


async def test_head_has_no_body() -> None:
    async with serving() as port:
        answer = await exchange(port, GET.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"GET", b"POST"), 405),
        (GET.replace(b"GET / ", b"GET /nothing "), 404),
        (GET.replace(b"GET / ", b"GET /broken "), 500),
        (GET.replace(b"localhost", b"evil.example"), 421),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99_999, 413),
    ],
)
async def test_anything_else_is_refused(request_: bytes, status: int) -> None:
    async with serving() as port:
        answer = await exchange(port, request_)
        assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")
    assert answer.split()[1] == str(status).encode()
    assert b"secret" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_who_takes_too_long_has_to_go() -> None:
    async with serving(timeout=0.1) as port:
        assert await exchange(port, b"", finish=False) == b""
        assert await exchange(port, b"GET / HT", finish=False) == b""


async def test_idle_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)
    async with serving() as port:
        idle = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(5)]
        assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")
        for stream in idle:
            await stream.aclose()


async def test_a_client_that_resets_harms_nobody() -> None:
    async with serving() as port:
        for _ in range(20):
            stream = await anyio.connect_tcp("127.0.0.1", port)
            await stream.send(GET[:10])
            await stream.aclose()
        assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")


async def test_a_port_in_use_is_one_line() -> None:
    async with serving() as port:
        with pytest.raises(AdminError, match=r"^admin\.listen: cannot listen on") as caught:
            await http.listen(f"127.0.0.1:{port}")
    assert "\n" not in str(caught.value)


@given(st.ip_addresses().map(str) | st.just("localhost"), st.integers(1, 65535))
def test_addresses_and_localhost_are_allowed(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    assert host_allowed(shown, ())
    assert host_allowed(f"{shown}:{port}", ())


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}\.(example|test)", fullmatch=True))
def test_names_are_allowed_only_if_they_are_listed(name: str) -> None:
    assert not host_allowed(f"{name}:80", ())
    assert not host_allowed(f"{name}:80", ("other.example",))
    assert host_allowed(f"{name.upper()}.:80", (name,))


@pytest.mark.parametrize(
    "header", ["[::1]evil", "[fe80::1%evil.com]", "localhost:80:80", "localhost:x", "", "::1", "[]"]
)
def test_what_is_no_host_is_refused(header: str) -> None:
    assert not host_allowed(header, ("evil", "evil.com"))


def test_a_listed_name_may_end_with_a_dot() -> None:
    assert host_allowed("node.example", ("node.example.",))


async def test_who_asks_without_a_pause_leaves_the_loop_to_others() -> None:
    """Pages that cost much are made in a fifth of the time, however many ask."""

    def costly(_: str) -> Answer:
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:
            pass
        return Answer(200, b"", "text/plain")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    server = HttpServer({"/": costly}, ())
    port = port_of(listener)
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while True:
            await exchange(port, GET)
            answered += 1

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        for _ in range(8):
            tasks.start_soon(ask)
        await anyio.sleep(1.0)
        tasks.cancel_scope.cancel()
    took = time.perf_counter() - began
    assert 0 < answered <= took / 0.05 + 1  # five times as many if no rest were kept


@given(st.text(max_size=40))
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(host_allowed(text, ()), bool)
