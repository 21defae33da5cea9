"""The admin socket: a Unix socket on which root and the node's user may ask the node.

A request is one line of JSON, ``{"command": "status"}``; so is the answer, ``{"ok": true,
"result": …}`` or ``{"ok": false, "error": "…"}``. A connection may carry many, one after another.
An answer that goes on (`tunmesh.admin.streams`) is the connection's last.
Knows nothing of what the commands do.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskStatus

from tunmesh.admin.streams import Stream, pump
from tunmesh.errors import AdminError, TunmeshError

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], Any | Awaitable[Any]]

MAX_CONNECTIONS = 32
MAX_REQUEST = 64 * 1024
TIMEOUT = 5.0  # seconds for a request to come, and for its handler
_SEND_TIMEOUT = 1.0  # short, as it is waited for even when the node stops
_ACCEPT_PAUSE = 0.1  # after a failed accept, as when descriptors ran out
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


async def serve(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    owner: tuple[int, int] | None = None,
    opened: Callable[[], Awaitable[None]] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109  # of each step, not of this call
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve requests until cancelled; the socket is removed in the end.

    Meant for ``await task_group.start(serve, path, handlers)``, which returns when it listens.

    Args:
        path: Where to listen; a socket that a dead node left behind is replaced.
        handlers: By command; called with the whole request. What they raise is answered.
        owner: The uid and gid that the socket is given, with its directory if that is made here;
            for a process that turns into that user.
        opened: What remains to be done once it listens, before the first request is answered.
        timeout: Seconds for each step of an exchange.
        task_status: Tells that the socket listens.

    Raises:
        AdminError: The socket cannot be made, or a live node has it.
    """
    listener, identity = _listen(path, owner)
    try:
        async with anyio.create_task_group() as tasks:
            server = _Server(handlers, timeout)
            if opened is not None:
                await opened()
            task_status.started()
            while True:
                await anyio.wait_readable(listener)
                try:
                    connection, _address = listener.accept()
                except BlockingIOError:
                    continue
                except OSError as exc:
                    log.warning("admin accept failed error=%s", exc)
                    await anyio.sleep(_ACCEPT_PAUSE)
                    continue
                tasks.start_soon(server.serve, connection)
    finally:
        listener.close()
        _unlink_if_same(path, identity)


class _Server:
    """What the connections share: the handlers and the limit of connections."""

    def __init__(self, handlers: Mapping[str, Handler], timeout: float) -> None:
        self._handlers = handlers
        self._timeout = timeout
        self._connections = 0
        self._idle: dict[anyio.CancelScope, None] = {}  # waiting for a request, oldest first

    async def serve(self, connection: socket.socket) -> None:
        """Serve one connection; whatever goes wrong in it stays in it."""
        with connection:
            try:
                connection.setblocking(False)
                if not _may_ask(connection):
                    log.warning("admin connection refused reason=%s", "foreign user")
                elif self._make_room():
                    self._connections += 1
                    try:
                        await self._converse(connection)
                    finally:
                        self._connections -= 1
            except OSError as exc:
                log.debug("admin connection ended error=%s", exc)
            except Exception:  # the boundary of the task: a defect here must not end the node
                log.exception("admin connection failed")

    def _make_room(self) -> bool:
        """Give up the oldest idle connection for a new one, so that idle ones block nobody."""
        if self._connections < MAX_CONNECTIONS:
            return True
        if not self._idle:
            return False
        oldest = next(iter(self._idle))
        del self._idle[oldest]
        oldest.cancel()
        return True

    async def _converse(self, connection: socket.socket) -> None:
        buffer = bytearray()
        while (line := await self._request(connection, buffer)) is not None:
            answer, stream = await self._answer(line)
            # Shielded: "stop" cancels this very task, and should be answered all the same.
            with anyio.move_on_after(_SEND_TIMEOUT, shield=True) as scope:
                await _send(connection, answer + b"\n")
            if stream is not None:
                await pump(connection, stream, _send)
                return
            if scope.cancelled_caught:
                return

    async def _request(self, connection: socket.socket, buffer: bytearray) -> bytes | None:
        """The next line, or None if none came in time, in full and within the limit."""
        with anyio.move_on_after(self._timeout) as scope:
            self._idle[scope] = None
            try:
                while (end := buffer.find(b"\n")) < 0:
                    if len(buffer) > MAX_REQUEST:
                        return None
                    await anyio.wait_readable(connection)
                    chunk = connection.recv(65536)
                    if not chunk:
                        return None
                    buffer += chunk
            finally:
                self._idle.pop(scope, None)
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            return line
        return None

    async def _answer(self, line: bytes) -> tuple[bytes, Stream | None]:
        """The line that answers, and what comes behind it."""
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _refusal("a request is one JSON object on one line"), None
        command = request.get("command")
        handler = self._handlers.get(command) if isinstance(command, str) else None
        if handler is None:
            return _refusal(f"unknown command; there are: {', '.join(self._handlers)}"), None
        try:
            with anyio.fail_after(self._timeout):
                result = handler(request)
                if inspect.isawaitable(result):
                    result = await result
            if isinstance(result, Stream):
                return msgspec.json.encode({"ok": True, "result": None}), result
            return msgspec.json.encode({"ok": True, "result": result}), None
        except TunmeshError as exc:
            return _refusal(str(exc)), None
        except TimeoutError:
            return _refusal(f"{command} took longer than {self._timeout:g} s"), None
        except Exception:  # a handler's defect must not end the node
            log.exception("admin command failed command=%s", command)
            return _refusal(f"{command} failed in the node: see its log"), None


def _refusal(message: str) -> bytes:
    return msgspec.json.encode({"ok": False, "error": message})


async def _send(connection: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            await anyio.wait_writable(connection)


def _may_ask(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(credentials)
    return uid in (0, os.geteuid())


def _listen(path: Path, owner: tuple[int, int] | None) -> tuple[socket.socket, os.stat_result]:
    """A listening socket, and its file. Nobody else can open it, not even while it is made."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _accessible(path, owner):
            _remove_stale(path)
            mask = os.umask(0o177)
            try:
                raw.bind(str(path))
            finally:
                os.umask(mask)
            raw.listen(128)
            identity = path.stat()
            if owner is not None:
                os.chown(path, *owner, follow_symlinks=False)
    except OSError as exc:
        raw.close()
        if exc.errno == errno.EADDRINUSE:
            raise AdminError(_in_use(path)) from exc
        raise AdminError(f"cannot make the admin socket {path}: {exc.strerror or exc}") from exc
    except AdminError:
        raw.close()
        raise
    return raw, identity


@contextmanager
def _accessible(path: Path, owner: tuple[int, int] | None) -> Iterator[None]:
    """Have the directory, and what a killed node left in it; in the end they are the owner's.

    Root without ``CAP_DAC_OVERRIDE``, as in a container, gets into no directory of another user.
    """
    taken: list[Path] = []
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = [path.parent]
    elif (
        owner is not None
        and path.parent.stat().st_uid == owner[0]
        and not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True)
    ):
        taken = [path.parent]
        os.chown(path.parent, os.geteuid(), os.getegid())
        if path.is_socket() and path.lstat().st_uid == owner[0]:
            taken = [path, path.parent]
            os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
    try:
        yield
    finally:
        if owner is not None:
            for item in filter(Path.exists, taken):
                os.chown(item, *owner, follow_symlinks=False)


def _remove_stale(path: Path) -> None:
    """Remove the socket that a dead node left behind.

    Raises:
        AdminError: It is alive, or no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise AdminError(f"the admin socket {path} exists and is no socket: remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # a full backlog (EAGAIN) is a live node's
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise AdminError(_in_use(path))


def _in_use(path: Path) -> str:
    return f"another node answers at {path}: stop it, or set admin.socket"


def _unlink_if_same(path: Path, identity: os.stat_result) -> None:
    """Remove our socket, but not one that has taken its place."""
    try:
        if os.path.samestat(path.stat(), identity):
            path.unlink()
    except FileNotFoundError:
        pass
    except PermissionError as exc:
        # The directory belongs to the user that the node was started by. The next start removes it.
        log.info("admin socket left behind path=%s error=%s", path, exc.strerror)
