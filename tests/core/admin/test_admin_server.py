# ruff: noqa: ASYNC240  # these calls take microseconds, and nothing else runs
from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunmesh.admin import server
from tunmesh.admin.client import ask
from tunmesh.admin.server import serve
from tunmesh.errors import AdminError, ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "node.sock"


async def slow(request: dict[str, Any]) -> None:
    await anyio.sleep_forever()


def refuse(request: dict[str, Any]) -> None:
    raise ConfigError("no such peer", key="peer")


def fail(request: dict[str, Any]) -> None:
    raise ZeroDivisionError


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    return request


HANDLERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "echo": echo,
    "fail": fail,
    "big": lambda request: "x" * 2_000_000,
    "refuse": refuse,
    "slow": slow,
    "unencodable": lambda request: object(),
}


@asynccontextmanager
async def serving(path: Path, seconds: float = 5.0) -> AsyncIterator[None]:
    async def run(task_status: anyio.abc.TaskStatus[None]) -> None:
        await serve(path, HANDLERS, timeout=seconds, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        yield
        tasks.cancel_scope.cancel()


async def asked(path: Path, command: str, **arguments: Any) -> Any:
    return await to_thread.run_sync(lambda: ask(path, command, **arguments))


def open_idle(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    return connection


async def test_answers_with_what_the_handler_returns(path: Path) -> None:
    async with serving(path):
        assert await asked(path, "echo", peer="b", n=3) == {"command": "echo", "peer": "b", "n": 3}


async def test_answers_that_exceed_the_socket_buffer_arrive_whole(path: Path) -> None:
    async with serving(path):
        assert len(await asked(path, "big")) == 2_000_000


async def test_several_requests_on_one_connection(path: Path) -> None:
    async with serving(path), await anyio.connect_unix(path) as stream:
        received = b""
        await stream.send(b'{"command":"echo"}\n{"command":"echo","n":1}\n')
        while received.count(b"\n") < 2:
            received += await stream.receive()
    first, second = map(json.loads, received.splitlines())
    assert first == {"ok": True, "result": {"command": "echo"}}
    assert second["result"]["n"] == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("refuse", "peer: no such peer"),
        ("fail", "fail failed in the node"),
        ("unencodable", "unencodable failed in the node"),
        ("nonsense", "unknown command; there are: echo,"),
    ],
)
async def test_a_failing_handler_is_answered_and_ends_nothing(
    path: Path, command: str, message: str
) -> None:
    async with serving(path):
        with pytest.raises(AdminError, match=message):
            await asked(path, command)
        assert await asked(path, "echo")


async def test_a_slow_handler_is_given_up(path: Path) -> None:
    async with serving(path, seconds=0.05):
        with pytest.raises(AdminError, match="slow took longer than"):
            await asked(path, "slow")
        assert await asked(path, "echo")


async def test_stop_is_answered_although_it_cancels_the_server(path: Path) -> None:
    async def run(task_status: anyio.abc.TaskStatus[None]) -> None:
        stop = {"stop": lambda request: tasks.cancel_scope.cancel()}
        await serve(path, stop, task_status=task_status)

    answers: list[object] = []
    with anyio.CancelScope() as asking:
        async with anyio.create_task_group() as tasks:
            await tasks.start(run)
            with anyio.CancelScope(shield=True):
                answers.append(await asked(path, "stop"))
        asking.cancel()
    assert answers == [None]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(line=st.one_of(st.binary(max_size=80), st.sampled_from([b"[]", b"{}", b'{"command":1}'])))
def test_any_line_is_answered_or_ignored(tmp_path_factory: Any, line: bytes) -> None:
    path = tmp_path_factory.mktemp("admin") / "s"

    async def converse() -> None:
        async with serving(path):
            async with await anyio.connect_unix(path) as stream:
                await stream.send(line.replace(b"\n", b" ") + b"\n")
                assert json.loads(await stream.receive())["ok"] is False
            assert await asked(path, "echo")

    anyio.run(converse)


async def test_a_request_without_end_is_cut_off(path: Path) -> None:
    async with serving(path), await anyio.connect_unix(path) as stream:
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x" * 10_000_000)
        assert await asked(path, "echo")


async def test_an_idle_connection_is_closed(path: Path) -> None:
    async with serving(path, seconds=0.05), await anyio.connect_unix(path) as stream:
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_a_hundred_idle_connections_block_nobody(path: Path) -> None:
    async with serving(path):
        idle = [open_idle(path) for _ in range(100)]
        with anyio.fail_after(1):
            assert await asked(path, "echo")
        for connection in idle:
            connection.close()


async def test_connections_beyond_the_limit_are_refused_while_all_are_busy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    async with serving(path), await anyio.connect_unix(path) as busy:
        await busy.send(b'{"command":"slow"}\n')
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(AdminError, match="closed the connection"):
            await asked(path, "echo")


async def test_the_socket_is_private_from_its_first_moment_and_gone_in_the_end(path: Path) -> None:
    mask = os.umask(0)
    try:
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert os.umask(0) == 0, "the umask was not put back"
    finally:
        os.umask(mask)
    assert not path.exists()


@pytest.mark.parametrize("uid", [0, 4242])
async def test_only_root_and_the_own_user_may_ask(
    path: Path, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    allowed = os.getuid() in {0, uid}
    async with serving(path):
        if allowed:
            assert await asked(path, "echo")
        else:
            with pytest.raises(AdminError, match="closed the connection"):
                await asked(path, "echo")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path
    while directory.name.startswith(("test_", "popen-", "pytest-")):  # all that pytest made
        directory.chmod(0o755)
        directory = directory.parent
    path = tmp_path / "node.sock"

    async with serving(path):
        assert await to_thread.run_sync(_connect_as_nobody, path) == "EACCES"
        path.chmod(0o666)  # somebody's mistake: the second check stands
        assert await to_thread.run_sync(_connect_as_nobody, path) == ""


def _connect_as_nobody(path: Path) -> str:
    """What a process of uid 65534 gets: the name of the error, or the answer."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            with open_idle(path) as connection:
                connection.sendall(b'{"command":"echo"}\n')
                os.write(write_end, connection.recv(100))
        except PermissionError:
            os.write(write_end, b"EACCES")
        except (BrokenPipeError, ConnectionResetError):
            pass
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with os.fdopen(read_end, "rb") as pipe:
        return pipe.read().decode()


async def test_a_stale_socket_is_replaced_and_a_live_one_respected(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    async with serving(path):
        with pytest.raises(AdminError, match="another node answers"):
            await serve(path, HANDLERS)
        assert await asked(path, "echo")


async def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(AdminError, match="is no socket"):
        await serve(path, HANDLERS)
    assert path.read_text() == "precious"


async def test_a_successor_keeps_its_socket(path: Path) -> None:
    async with serving(path):
        path.unlink()
        async with serving(path):
            pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as successor:
            successor.bind(str(path))
    assert path.exists()


@pytest.mark.parametrize("name", ["x" * 200, "file/below"])
async def test_an_impossible_path_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AdminError, match="cannot make the admin socket") as caught:
        await serve(tmp_path / name, HANDLERS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users, so root")
async def test_a_socket_for_another_user(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(serve, owner=(54321, 54322)), path, {})
        assert (path.stat().st_uid, path.stat().st_gid) == (54321, 54322)
        assert path.parent.stat().st_uid == 54321
        tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as tasks:  # a directory that is there stays as it is
        os.chown(path.parent, 0, 0)
        await tasks.start(partial(serve, owner=(54321, 54322)), path, {})
        assert path.stat().st_uid == 54321
        assert path.parent.stat().st_uid == 0
        tasks.cancel_scope.cancel()


async def test_nothing_is_answered_before_the_process_is_ready(path: Path) -> None:
    order = []

    async def opened() -> None:
        assert path.is_socket()
        order.append("opened")

    async with anyio.create_task_group() as tasks:
        handlers = {"status": lambda _: order.append("answered")}
        await tasks.start(partial(serve, opened=opened), path, handlers)
        await to_thread.run_sync(ask, path, "status", 5)
        tasks.cancel_scope.cancel()
    assert order == ["opened", "answered"]
