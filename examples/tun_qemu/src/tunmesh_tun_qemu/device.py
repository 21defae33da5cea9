"""The device: a stream from a virtual machine, on which each Ethernet frame follows its length.

::

    length u32 | Ethernet frame          QEMU: -netdev stream; libkrun: krun_add_net_unixstream()
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tunmesh.interfaces.tun import Buffer
from tunmesh.plugin import BadPacket, DeviceConfig, Tun, TunContext, TunError, Watch
from tunmesh_tun_qemu.ethernet import HEADER_SIZE, Ethernet
from tunmesh_tun_qemu.plugin import Options

log = logging.getLogger(__name__)

_VNET = bytes(10)
_LENGTH = 4
_LONGEST_FRAME = 65_535 + HEADER_SIZE
#: Packets that wait for the node; then the stream is not read, and the machine waits.
_MOST_WAITING = 256
#: Bytes that wait for the machine; more is refused.
_MOST_UNSENT = 1 << 20
_READ = 1 << 18


class QemuTun(Tun):
    """The network card of one virtual machine. It may come and go while the node runs."""

    def __init__(self, context: TunContext) -> None:
        options: Options = context.options
        self.name = context.name
        self.mtu = options.mtu
        self._context = context
        self._path = Path(options.socket)
        self._ethernet = Ethernet()
        self._waiting: deque[bytes] = deque()
        self._received = bytearray()
        self._unsent = bytearray()
        self._event: int | None = None
        self._listener: socket.socket | None = None
        self._machine: socket.socket | None = None
        self._writable: select.epoll | None = None
        self._watches: dict[str, Watch] = {}

    # Life

    async def __aenter__(self) -> Self:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            self._remove_stale()
            listener.bind(str(self._path))
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise TunError(
                f"cannot listen on {self._path}: {error.strerror or error} "
                f"(plugins.{self._context.name}.socket)"
            ) from error
        self._listener = listener
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch("listener", listener.fileno(), self._accept)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is None or self._event is None:
            return
        self._disconnect("the node stops")
        self._unwatch("listener")
        self._listener.close()
        self._listener = None
        os.close(self._event)
        self._event = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError as failure:  # the directory is no longer ours: the next start replaces it
            log.info("socket left path=%s error=%s", self._path, failure.strerror)

    def _remove_stale(self) -> None:
        """Remove the socket of a node that was killed.

        Raises:
            OSError: Somebody listens there, or it is no socket.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except FileNotFoundError:
                return
            except ConnectionRefusedError:
                if not self._path.is_socket():
                    raise FileExistsError(
                        errno.EEXIST, "there is a file that is no socket"
                    ) from None
                self._path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another process listens there")

    def _watch(self, what: str, fd: int, callback: Callable[[], None]) -> None:
        self._watches[what] = self._context.reactor.watch(fd, callback)

    def _unwatch(self, what: str) -> None:
        watch = self._watches.pop(what, None)
        if watch is not None:
            watch.close()

    # The machine

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            machine, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._machine is not None:
            machine.close()
            log.warning("second machine refused path=%s", self._path)
            return
        machine.setblocking(False)
        self._machine = machine
        self._writable = select.epoll()
        self._writable.register(machine.fileno(), select.EPOLLOUT)
        self._watch("machine", machine.fileno(), self._readable)
        log.info("machine connected path=%s", self._path)

    def _disconnect(self, reason: str) -> None:
        if self._machine is None or self._writable is None:
            return
        self._unwatch("machine")
        self._unwatch("writable")
        self._writable.close()
        self._machine.close()
        self._machine = self._writable = None
        self._received.clear()
        self._unsent.clear()
        log.info("machine gone path=%s reason=%s", self._path, reason)

    def _readable(self) -> None:
        assert self._machine is not None
        try:
            data = self._machine.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._disconnect(error.strerror or str(error))
            return
        if not data:
            self._disconnect("it closed the connection")
            return
        self._received += data
        self._take_frames()
        if len(self._waiting) >= _MOST_WAITING:
            self._unwatch("machine")  # until the node has read them

    def _take_frames(self) -> None:
        received, at = self._received, 0
        while len(received) >= at + _LENGTH:
            length = int.from_bytes(received[at : at + _LENGTH], "big")
            if length > _LONGEST_FRAME:
                self._disconnect(f"it sent a frame of {length} bytes")
                return
            end = at + _LENGTH + length
            if end > len(received):
                break
            self._take(bytes(received[at + _LENGTH : end]))
            if self._machine is None:
                return
            at = end
        del received[:at]

    def _take(self, frame: bytes) -> None:
        try:
            heard = self._ethernet.decode_untrusted(frame)
        except BadPacket as error:
            log.debug("frame dropped error=%s", error)
            return
        if heard.packet:
            assert self._event is not None
            if not self._waiting:
                os.eventfd_write(self._event, 1)
            self._waiting.append(_VNET + heard.packet)
        if heard.answer:
            self._send(heard.answer)
            self._flush()

    def _send(self, frame: bytes) -> bool:
        """Send a frame; whether there was room for it. Without a machine it is lost, as any is."""
        if self._machine is None:
            return True
        if len(self._unsent) + len(frame) > _MOST_UNSENT:
            return False
        self._unsent += len(frame).to_bytes(_LENGTH, "big") + frame
        return True

    def _flush(self) -> None:
        """Send what waits, and have the rest sent when there is room."""
        if self._machine is None or self._writable is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._machine.send(self._unsent)]
        except BlockingIOError:
            if "writable" not in self._watches:  # an epoll is readable when its socket is writable
                self._watch("writable", self._writable.fileno(), self._flush)
            return
        except OSError as error:
            self._disconnect(error.strerror or str(error))
            return
        self._unwatch("writable")

    # The node

    def fileno(self) -> int:
        assert self._event is not None
        return self._event

    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        if self._event is None:
            raise TunError(f"{self.name} is closed")
        lengths = []
        end = 0
        while self._waiting and end < fill:
            frame = self._waiting.popleft()
            start = end + headroom
            end = start + len(frame)
            buffer[start:end] = frame
            lengths.append(len(frame))
        if lengths and not self._waiting:
            os.eventfd_read(self._event)  # readable no longer
            if self._machine is not None and "machine" not in self._watches:
                self._watch("machine", self._machine.fileno(), self._readable)
        return lengths

    def write_batch(self, frames: Sequence[Buffer]) -> int:
        refused = 0
        for frame in frames:
            try:
                refused += not self._send(self._ethernet.encode(memoryview(frame)[len(_VNET) :]))
            except BadPacket:
                refused += 1
        self._flush()
        return refused

    async def apply(self, config: DeviceConfig) -> None:
        self._ethernet.configure(config.addresses, config.broadcasts)
