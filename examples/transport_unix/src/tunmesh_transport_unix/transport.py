"""Datagrams between sockets in the file system. An endpoint is ``unix://`` and an absolute path."""

from __future__ import annotations

import errno
import re
import socket
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tunmesh.interfaces.tun import Buffer
from tunmesh.plugin import (
    EndpointError,
    PathHandle,
    Transport,
    TransportContext,
    TransportError,
    Watch,
)
from tunmesh_transport_unix.plugin import Options

SCHEME = "unix"
#: What fits into ``sockaddr_un``, without the byte that ends it (unix(7)).
_LONGEST_PATH = 107
_ENDPOINT = re.compile(rf"{SCHEME}://(/[!-~]{{1,{_LONGEST_PATH - 1}}})")
#: The core's largest unit: one datagram for what is sealed together.
_MAX_DATAGRAM = 65_507
#: Datagrams taken each time that the socket is readable; then it is the others' turn.
_BATCH = 64
_BUFFER = 1 << 20
#: The receiver reads too slowly, or the kernel is out of memory for it.
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


class UnixPath(PathHandle):
    """Another node's socket.

    Attributes:
        path: Where it is.
    """

    __slots__ = ("path",)

    def __init__(self, transport: Transport, path: str) -> None:
        # Who can make one socket can make many beside it: those share a limit.
        source = path.rpartition("/")[0].encode() or b"/"
        super().__init__(transport, f"{SCHEME}://{path}", source=source, max_datagram=_MAX_DATAGRAM)
        self.path = path


class UnixTransport(Transport):
    """Carries datagrams between the nodes of one host."""

    schemes = frozenset({SCHEME})
    priority = 200  # nothing is nearer
    max_segments = 8  # a receiver's queue takes 11 datagrams: net.unix.max_dgram_qlen and one

    def __init__(self, context: TransportContext) -> None:
        options: Options = context.options
        self.name = context.name
        self._context = context
        self._path = Path(options.listen)
        self._socket: socket.socket | None = None
        self._watch: Watch | None = None
        self._file: tuple[int, int] | None = None  # device and inode of our socket
        self._adopted: dict[str, UnixPath] = {}
        self._counts: Counter[str] = Counter()
        self._view = memoryview(bytearray(_MAX_DATAGRAM + 1))

    # Life

    async def __aenter__(self) -> Self:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            _endpoint_path(f"{SCHEME}://{self._path}")
            self._remove_stale()
            opened.bind(str(self._path))
            found = self._path.stat()
        except (OSError, EndpointError) as error:
            opened.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise TransportError(
                f"cannot listen on {self._path}: {reason} (plugins.{self.name}.listen)"
            ) from error
        self._socket, self._file = opened, (found.st_dev, found.st_ino)
        self._watch = self._context.reactor.watch(opened.fileno(), self._readable)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._socket is None or self._watch is None:
            return
        self._watch.close()
        self._socket.close()
        self._socket = self._watch = None
        self._adopted.clear()
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._file:  # nobody has put another one there
                self._path.unlink()
        except OSError:  # gone, or no longer ours to remove: the next start replaces it
            self._counts["sockets_left"] += 1

    def _remove_stale(self) -> None:
        """Remove a socket that a killed node has left.

        Raises:
            OSError: Somebody listens there, or it is something else.
        """
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another process listens there")

    # Paths

    def local_endpoints(self) -> tuple[str, ...]:
        return () if self._socket is None else (f"{SCHEME}://{self._path}",)

    async def resolve(self, url: str) -> tuple[str, ...]:
        _endpoint_path(url)
        return (url,)

    def connect(self, endpoint: str) -> PathHandle:
        path = _endpoint_path(endpoint)
        return self._adopted.get(path) or UnixPath(self, path)

    def adopt(self, handle: PathHandle) -> None:
        assert isinstance(handle, UnixPath)
        self._adopted[handle.path] = handle

    def release(self, handle: PathHandle) -> None:
        if isinstance(handle, UnixPath) and self._adopted.get(handle.path) is handle:
            del self._adopted[handle.path]

    # Datagrams

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        assert isinstance(handle, UnixPath)
        if self._socket is None:
            return True  # lost: the node is closing
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        for at in range(0, len(data), segment_size):
            try:
                self._socket.sendto(data[at : at + segment_size], handle.path)
            except OSError as error:
                if error.errno in _FULL:
                    return False
                if error.errno == errno.EMSGSIZE:
                    self._context.inbound.too_big(handle, min(segment_size, len(data) - at))
                # Nobody listens there, or this node may not write there: as if it was lost.
                self._counts[f"send_{errno.errorcode.get(error.errno or 0, 'error').lower()}"] += 1
        return True

    def _readable(self) -> None:
        for _ in range(_BATCH):
            if self._socket is None:  # closed by what came
                return
            try:
                size, path = self._socket.recvfrom_into(self._view)
            except BlockingIOError:
                return
            # A path can be any bytes, as an abstract socket's, or none: those have no endpoint.
            if not isinstance(path, str) or _ENDPOINT.fullmatch(f"{SCHEME}://{path}") is None:
                self._counts["nameless"] += 1
                continue
            handle = self._adopted.get(path) or UnixPath(self, path)
            self._context.inbound.receive(handle, self._view[:size], size)

    def statistics(self) -> dict[str, int]:
        return dict(self._counts)


def _endpoint_path(endpoint: str) -> str:
    """The path of an endpoint.

    Raises:
        EndpointError: It is none.
    """
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None:
        raise EndpointError(
            f"{endpoint!r} is not {SCHEME}:// and an absolute path of at most {_LONGEST_PATH} "
            "characters without spaces"
        )
    return match[1]
