"""Asks a running node through its admin socket. Blocking: for commands, not for the node."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import msgspec

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
    request = msgspec.json.encode({"command": command, **arguments}) + b"\n"
    try:
        answer = _exchange(str(path), request, time.monotonic() + timeout)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    except (FileNotFoundError, ConnectionRefusedError):
        raise AdminError(f"no node answers at {path}: is tunmesh running?") from None
    except PermissionError:
        raise AdminError(f"not allowed to open {path}: only root and the node's user are") from None
    except TimeoutError:
        raise AdminError(f"the node at {path} did not answer within {timeout:g} s") from None
    except OSError as exc:
        raise AdminError(f"cannot ask the node at {path}: {exc.strerror or exc}") from exc
    if not answer:
        raise AdminError(f"the node at {path} closed the connection: it answers root and its user")
    try:
        response = msgspec.json.decode(answer, type=_Response)
    except msgspec.MsgspecError as exc:
        raise AdminError(f"what answers at {path} is not a tunmesh node") from exc
    if not response.ok:
        raise AdminError(f"the node refused {command}: {response.error}")
    return response.result


def _exchange(path: str, request: bytes, deadline: float) -> bytes:
    """Send one line and return the line that comes back, or less if the connection ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_left(deadline))
        connection.connect(path)
        connection.sendall(request)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            connection.settimeout(_left(deadline))
            chunk = connection.recv(65536)
            if not chunk:
                break
            answer += chunk
        return bytes(answer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
