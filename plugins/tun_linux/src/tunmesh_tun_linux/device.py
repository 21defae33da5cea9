"""The TUN device as the core sees it: frames in and out, and the host's configuration."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

import anyio
from anyio.to_thread import run_sync

from tunmesh.errors import TunError
from tunmesh.interfaces import DeviceConfig, Tun
from tunmesh_tun_linux.hostnet import HostNet
from tunmesh_tun_linux.options import AUTO_MTU
from tunmesh_tun_linux.tunfd import open_tun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tunmesh.interfaces import TunContext
    from tunmesh.interfaces.tun import Buffer
    from tunmesh_tun_linux.options import Options

_CLOSED = -1


class LinuxTun(Tun):
    """A TUN device of Linux. It lives as long as its descriptor, and so do addresses and routes."""

    def __init__(self, context: TunContext) -> None:
        options: Options = context.options
        self.name = options.device
        self.mtu = AUTO_MTU if options.mtu == "auto" else options.mtu
        self.offloads = frozenset()
        self._context = context
        self._txqueuelen = options.txqueuelen
        self._routes = options.routes
        self._fd = _CLOSED
        self._gone = False
        self._net = HostNet(self.name)
        self._applying = anyio.Lock()

    async def __aenter__(self) -> Self:
        self._fd, self.offloads = await run_sync(open_tun, self.name)
        try:
            await run_sync(self._net.bring_up, self.mtu, self._txqueuelen)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        fd, self._fd = self._fd, _CLOSED
        # The kernel removes the device within close(), which waits for its readers: some ten
        # milliseconds, so not on the event loop; and also when the node is being cancelled.
        with anyio.CancelScope(shield=True):
            await run_sync(os.close, fd)

    def fileno(self) -> int:
        return self._fd

    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        fd = self._fd
        readv = os.readv
        lengths: list[int] = []
        append = lengths.append
        offset = headroom
        try:
            while True:
                length = readv(fd, (buffer[offset:],))
                append(length)
                offset += length
                if offset >= fill:
                    return lengths
                offset += headroom
        except BlockingIOError:
            return lengths
        except OSError as exc:
            # The loop may not call again: libuv stops watching a descriptor in error.
            raise TunError(self._lost(exc)) from exc

    def write_batch(self, frames: Sequence[Buffer]) -> int:
        fd = self._fd
        write = os.write
        refused = 0
        for frame in frames:
            try:
                write(fd, frame)
            except OSError as exc:
                # EINVAL: a malformed frame. EIO: the device is set down. EAGAIN, ENOBUFS, ENOMEM:
                # the host is short of memory. All of them concern this frame only.
                refused += 1
                if exc.errno == errno.EBADFD:
                    self._lost(exc)
        return refused

    async def apply(self, config: DeviceConfig) -> None:
        async with self._applying:
            await run_sync(self._net.apply, config, self._routes)

    def _lost(self, exc: OSError) -> str:
        """Tell the node, once, that the device is gone; returns the reason."""
        if exc.errno == errno.EBADFD:
            reason = f"device {self.name} was removed by somebody else"
        else:
            reason = f"device {self.name} cannot be read: {exc.strerror}"
        if not self._gone:
            self._gone = True
            self._context.device_lost(reason)
        return reason
