"""Asks a running node through its admin socket. Blocking: for commands, not for the node."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tunmesh.admin.records import LENGTH
from tunmesh.errors import AdminError


class _Response(msgspec.Struct):
    ok: bool
    result: Any = None
    error: str = ""


def ask(path: Path | str, command: str, timeout: float = 5.0, **arguments: Any) -> Any:  # noqa: ANN401
    """Ask the node behind an admin socket.

    Args:
        path: The socket.
        command: What to ask, as ``status``.
        timeout: Seconds for the whole exchange.
        arguments: Sent along with the command.

    Returns:
        The node's answer, made of builtins.

    Raises:
        AdminError: One line: nobody answers there, or the node refused.
    """
    with _errors(path, timeout), _connect(path, time.monotonic() + timeout) as connection:
        answer, _ = _request(connection, command, arguments, time.monotonic() + timeout)
    return _result(path, command, answer)


@contextlib.contextmanager
def follow(
    path: Path | str, command: str, *, until: float = float("inf"), **arguments: Any
) -> Iterator[Iterator[bytes]]:
    """Ask the node something to which the answer goes on, for as long as the context lasts.

    Args:
        path: The socket.
        command: What to ask, as ``capture``.
        until: When the messages are to end, on the monotonic clock.
        arguments: Sent along with the command.

    Yields:
        The messages, as soon as the node has agreed.

    Raises:
        AdminError: One line: nobody answers there, or the node refused.
    """
    deadline = time.monotonic() + _TIMEOUT
    with contextlib.ExitStack() as stack:
        with _errors(path, _TIMEOUT):
            connection = stack.enter_context(_connect(path, deadline))
            answer, rest = _request(connection, command, arguments, deadline)
        _result(path, command, answer)
        yield _messages(connection, rest, until)


def _messages(connection: socket.socket, rest: bytearray, until: float) -> Iterator[bytes]:
    """The messages of an answer that goes on, until a moment or until the node ends."""
    while (left := until - time.monotonic()) > 0:
        end = LENGTH.size + (LENGTH.unpack_from(rest)[0] if len(rest) >= LENGTH.size else 0)
        if LENGTH.size < end <= len(rest):
            yield bytes(rest[LENGTH.size : end])
            del rest[:end]
            continue
        connection.settimeout(None if left == float("inf") else left)
        try:
            chunk = connection.recv(1 << 20)
        except (TimeoutError, ConnectionResetError):
            return
        if not chunk:
            return
        rest += chunk


_TIMEOUT = 5.0


@contextlib.contextmanager
def _errors(path: Path | str, timeout: float) -> Iterator[None]:
    """Turn what goes wrong with a socket into one line."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError):
        raise AdminError(f"no node answers at {path}: is tunmesh running?") from None
    except PermissionError:
        raise AdminError(f"not allowed to open {path}: only root and the node's user are") from None
    except TimeoutError:
        raise AdminError(f"the node at {path} did not answer within {timeout:g} s") from None
    except OSError as exc:
        raise AdminError(f"cannot ask the node at {path}: {exc.strerror or exc}") from exc


def _connect(path: Path | str, deadline: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _result(path: Path | str, command: str, answer: bytes) -> Any:  # noqa: ANN401
    """What a line says."""
    if not answer:
        raise AdminError(f"the node at {path} closed the connection: it answers root and its user")
    try:
        response = msgspec.json.decode(answer, type=_Response)
    except msgspec.MsgspecError as exc:
        raise AdminError(f"what answers at {path} is not a tunmesh node") from exc
    if not response.ok:
        raise AdminError(f"the node refused {command}: {response.error}")
    return response.result


def _request(
    connection: socket.socket, command: str, arguments: dict[str, Any], deadline: float
) -> tuple[bytes, bytearray]:
    """Send one line; returns the line that comes back, and what came behind it.

    The line is empty if the connection ended, and what came is less than one if it ended in it.
    """
    answer = bytearray()
    try:
        connection.sendall(msgspec.json.encode({"command": command, **arguments}) + b"\n")
        while (end := answer.find(b"\n")) < 0:
            connection.settimeout(_left(deadline))
            chunk = connection.recv(65536)
            if not chunk:
                return bytes(answer), bytearray()
            answer += chunk
    except (BrokenPipeError, ConnectionResetError):
        return b"", bytearray()
    return bytes(answer[:end]), answer[end + 1 :]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
