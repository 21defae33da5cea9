"""What the node tells the service manager that started it: sd_notify(3), the part that it needs.

A datagram of ``KEY=value`` lines goes to the socket that ``$NOTIFY_SOCKET`` names. The watchdog is
fed by the pass of the node's timer itself, and only if every descriptor that had something to read
was read: not by a task that does nothing else, which would live on in a node that moves nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, MutableMapping
from typing import Self

log = logging.getLogger(__name__)

#: Seconds between looks at what the node does where no watchdog asks for more.
_INTERVAL = 5.0
#: Messages that wait for room in the manager's queue; a manager that reads none of them is gone.
_MOST_WAITING = 16


class ServiceManager:
    """The service manager, or nobody: then every call does nothing.

    Opened before privileges are given up, as its socket may be out of reach later.

    Args:
        environ: Where its variables stand. They are taken out, so that no child inherits them.

    Attributes:
        interval: Seconds between beats; infinity if nobody listens.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        period = _watchdog(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = self._open()
        self._watched = self._socket is not None and period > 0
        self.interval = float("inf")
        if self._socket is not None:
            self.interval = period / 2 if self._watched else _INTERVAL
        self._next_beat = float("inf")
        self._status = ""
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, now: float, status: str) -> None:
        """The node does its work: the start is over, or a reload. Beats begin.

        Args:
            now: The clock of `beat`.
            status: One line for people.
        """
        self._next_beat = now + self.interval
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={moment}", "STATUS=reloading")

    def stopping(self) -> None:
        """The node stops. Nothing but the end is told from now on."""
        self._next_beat = float("inf")
        self._send("STOPPING=1", "STATUS=stopping")

    def beat(
        self, now: float, overdue: Callable[[], Collection[int]], status: Callable[[], str]
    ) -> float:
        """Tell that the node lives, if it is time to; to be called by what must not stand still.

        Args:
            now: Seconds, on any clock.
            overdue: The descriptors that should have been read since it was asked last.
            status: One line for people.

        Returns:
            When to call again at the latest.
        """
        if now < self._next_beat:
            return self._next_beat
        self._next_beat = now + self.interval
        if stuck := overdue():
            log.error("readers stuck descriptors=%s", ",".join(map(str, sorted(stuck))))
            return self._next_beat
        lines = ["WATCHDOG=1"] if self._watched else []
        if (line := status()) != self._status:
            self._status = line
            lines.append(f"STATUS={line}")
        if lines:
            self._send(*lines)
        return self._next_beat

    def _open(self) -> socket.socket | None:
        if not self._address:
            return None
        if self._address[0] not in "/\0":
            log.warning("service manager ignored reason=%s", "address of an unknown kind")
            return None
        opened = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            opened.connect(self._address)
        except OSError as error:
            opened.close()
            log.warning("service manager unreachable error=%s", error.strerror)
            return None
        return opened

    def _send(self, *lines: str) -> None:
        """Send one message, after those that found no room before. Never blocks."""
        if self._socket is None:
            return
        self._waiting.append("\n".join(lines))
        try:
            while self._waiting:
                self._socket.send(self._waiting[0].encode())
                self._waiting.popleft()
        except BlockingIOError:
            return  # its queue is full: with the next message
        except OSError as error:
            # It may have started anew, with a new socket of that name.
            log.warning("service manager not told error=%s", error.strerror)
            self._socket.close()
            self._socket = self._open()


def _watchdog(period: str, pid: str) -> float:
    """Seconds in which the watchdog wants to be fed; 0 if none does, or not by this process."""
    if pid and pid != str(os.getpid()):
        return 0.0
    if period and not (period.isascii() and period.isdigit()):
        log.warning("watchdog ignored period=%s", period)
        return 0.0
    return int(period or 0) / 1e6
