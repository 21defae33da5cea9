"""Answers of the admin socket that go on: messages until either side has enough.

After the line that answers the request come messages, each behind its length (u32, big-endian).
Whatever the client says then, or that it goes, ends the answer.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import anyio

from tunmesh.admin.records import LENGTH

#: Seconds in which a client must take one message; a stalled one is let go.
STALL = 10.0

Send = Callable[[socket.socket, bytes], Awaitable[None]]


@runtime_checkable
class Stream(Protocol):
    """What a handler returns if its answer goes on."""

    async def next(self) -> bytes:
        """The next message; waits until there is one."""

    def close(self) -> None:
        """Nobody listens any longer."""


async def pump(connection: socket.socket, stream: Stream, send: Send, stall: float = STALL) -> None:
    """Send the messages of a stream until the client has enough, and close it.

    Args:
        connection: To the client.
        stream: Gives the messages.
        send: Sends bytes whole.
        stall: Seconds in which one message must be taken.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_of, connection, tasks.cancel_scope)
            while True:
                message = await stream.next()
                taken = False
                with anyio.move_on_after(stall), contextlib.suppress(ConnectionError):
                    await send(connection, LENGTH.pack(len(message)) + message)
                    taken = True
                if not taken:  # the client stalls, or has gone
                    break
            tasks.cancel_scope.cancel()
    finally:
        stream.close()


async def _end_of(connection: socket.socket, scope: anyio.CancelScope) -> None:
    await anyio.wait_readable(connection)
    scope.cancel()
