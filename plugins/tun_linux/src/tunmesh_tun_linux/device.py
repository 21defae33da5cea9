"""The TUN device as the core sees it: frames in and out, and the host's configuration."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Self

import anyio
from anyio.to_thread import run_sync

from tunmesh.errors import TunError
from tunmesh.interfaces import DeviceConfig, Tun
from tunmesh.privileges import CAP_NET_ADMIN, capabilities
from tunmesh_tun_linux import commands, rtnetlink
from tunmesh_tun_linux.commands import CommandFailed
from tunmesh_tun_linux.farewell import Farewell
from tunmesh_tun_linux.helper import HelperProcess
from tunmesh_tun_linux.hostnet import HostNet, forwards, underlay_addresses
from tunmesh_tun_linux.options import AUTO_MTU
from tunmesh_tun_linux.rtnetlink import Event
from tunmesh_tun_linux.tunfd import adopt_tun, open_tun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tunmesh.interfaces import TunContext, Watch
    from tunmesh.interfaces.tun import Buffer, Interface
    from tunmesh_tun_linux.options import Options

log = logging.getLogger(__name__)
# At `debug` it tells of every netlink message: thousands of lines for each look at the addresses.
logging.getLogger("pyroute2").setLevel(logging.WARNING)

_CLOSED = -1
#: Reads of one frame after more than one was looked for in vain.
_SINGLY = 8
#: What others remove is put back at most this often.
_HEAL_INTERVAL = 1.0
#: A device that is removed is set down first; the rest follows within this time.
_REMOVAL = 0.1
_HEAL_DELAY = 0.1


class LinuxTun(Tun):
    """A TUN device of Linux.

    Unless it is persistent it lives as long as its descriptor, and so do addresses and routes.
    """

    def __init__(self, context: TunContext) -> None:
        options: Options = context.options
        self.name = options.device
        self.mtu = AUTO_MTU if options.mtu == "auto" else options.mtu
        self.offloads = frozenset()
        self._context = context
        self._options = options
        self._fd = _CLOSED
        self._index = 0
        self._persistent = False
        self._gone = False
        self._singly = 0
        self._helper: HelperProcess | None = None
        self._net = HostNet(self.name)
        self._config: DeviceConfig | None = None
        self._farewell: Farewell | None = None
        self._events: socket.socket | None = None
        self._watches: list[Watch] = []
        self._applying = anyio.Lock()
        self._healing = False
        self._healed = 0.0

    async def __aenter__(self) -> Self:
        try:
            await run_sync(self._open)
        except BaseException:
            await self._close()
            raise
        assert self._events is not None
        watch = self._context.reactor.watch
        self._watches.append(watch(self._events.fileno(), self._hear))
        if self._helper is not None:
            self._watches.append(watch(self._helper.pidfd, self._helper_ended))
        return self

    def _open(self) -> None:
        options = self._options
        if self._context.user is not None and may_administer():
            prefixes = (*options.routes, *self._context.accept_subnets)
            networks = self._context.mesh_networks
            self._helper = HelperProcess(self._context.user, networks, prefixes)
        opened = open_tun(self.name) if options.fd < 0 else adopt_tun(options.fd, self.name)
        self._fd, self.name, self.offloads, self._persistent = opened
        self._index = socket.if_nametoindex(self.name)
        self._net = HostNet(self.name, self._helper)
        any_mtu = options.mtu == "auto"
        self.mtu = self._net.bring_up(self.mtu, options.txqueuelen, any_mtu=any_mtu)
        if self._helper is not None:
            self._helper.bind(self._index)
        self._events = rtnetlink.open_watch(rtnetlink.ALL_GROUPS)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for watch in self._watches:
            watch.close()
        if self._events is not None:
            self._events.close()
        # The kernel removes the device within close(), which waits for its readers: some ten
        # milliseconds, so not on the event loop; and also when the node is being cancelled.
        with anyio.CancelScope(shield=True):
            async with self._applying:
                await run_sync(self._leave)

    def _leave(self) -> None:
        if self._farewell is not None:
            problem = self._farewell.say()
            if problem:
                log.warning("%s device=%s", problem, self.name)
        self._net.close(device_stays=self._persistent)
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            os.close(fd)
        if self._helper is not None:
            self._helper.close()

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
                if self._singly:
                    # Frames come one by one. To look for another costs as much as to read it, and
                    # if there is one, the descriptor is readable still.
                    self._singly -= 1
                    return lengths
                offset += headroom
        except BlockingIOError:
            self._singly = 0 if len(lengths) > 1 else _SINGLY
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
            first, self._config = self._config is None, config
            await run_sync(self._net.apply, config, self._options.routes)
            if first:
                await run_sync(self._run_up, config)

    def _run_up(self, config: DeviceConfig) -> None:
        """Run the ``up`` commands, and get ready for ``down``, which then runs in any case."""
        options = self._options
        if not options.up and not options.down:
            return
        environment = {
            "TUNMESH_DEVICE": self.name,
            "TUNMESH_ADDRESSES": " ".join(map(str, config.addresses)),
            "TUNMESH_NETWORKS": " ".join(map(str, config.networks)),
            "TUNMESH_MTU": str(self.mtu),
            "TUNMESH_NODE_NAME": self._context.node_name,
            "TUNMESH_NODE_ID": self._context.node_id,
        }
        deadline = time.monotonic() + commands.LIMIT
        try:
            if options.down:
                self._farewell = Farewell(options.down, environment)
            for command in options.up:
                commands.run(command, environment, deadline)
        except CommandFailed as exc:
            raise TunError(f"plugins.tun_linux.up: {exc}") from exc
        except OSError as exc:
            raise TunError(f"cannot start the process for plugins.tun_linux.down: {exc}") from exc

    def _hear(self) -> None:
        """Something changed in the host's network configuration."""
        assert self._events is not None
        events = rtnetlink.read_events(self._events, self._index)
        if Event.GONE in events:
            self._lose(f"device {self.name} was removed by somebody else")
        elif Event.DOWN in events:
            self._context.start_soon(self._set_down)
        elif Event.REMOVED in events or (self._persistent and events):
            # A device that was there before gets its link-local address late.
            self._heal_soon()

    async def _set_down(self) -> None:
        """The device is down, which it also is just before it is removed."""
        await anyio.sleep(_REMOVAL)
        self._lose(f"device {self.name} was set down by somebody else")

    def _heal_soon(self) -> None:
        if not self._healing and self._config is not None:
            self._healing = True
            self._context.start_soon(self._heal)

    async def _heal(self) -> None:
        """Put back what others have removed."""
        # A short while at least, so that whoever removes several things has come to an end.
        await anyio.sleep(max(_HEAL_DELAY, self._healed + _HEAL_INTERVAL - self._context.now()))
        async with self._applying:
            # What is removed from here on makes it be done again.
            self._healing = False
            self._healed = self._context.now()
            if self._gone or self._config is None:
                return
            try:
                changes = await run_sync(self._net.apply, self._config, self._options.routes)
            except TunError as exc:
                log.warning("device not healed device=%s error=%s", self.name, exc)
            else:
                if changes:
                    log.warning("device healed device=%s added=%s", self.name, ", ".join(changes))

    def _helper_ended(self) -> None:
        self._watches.pop().close()  # it would go on and on
        self._lose("its helper process ended")

    async def underlay_addresses(self) -> tuple[Interface, ...]:
        return await run_sync(underlay_addresses, self.name)

    def forwards(self, version: int) -> bool:
        return forwards(version)

    def _lost(self, exc: OSError) -> str:
        """Tell the node, once, that the device is gone; returns the reason."""
        if exc.errno == errno.EBADFD:
            reason = f"device {self.name} was removed by somebody else"
        else:
            reason = f"device {self.name} cannot be read: {exc.strerror}"
        self._lose(reason)
        return reason

    def _lose(self, reason: str) -> None:
        if not self._gone:
            self._gone = True
            self._context.device_lost(reason)


def may_administer() -> bool:
    """Whether this process has ``CAP_NET_ADMIN``, which a helper would have to keep."""
    return bool(capabilities().effective & 1 << CAP_NET_ADMIN)
