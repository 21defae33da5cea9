"""A non-blocking TCP connection, with TLS on it or not yet.

Never waits: whoever uses it waits for the socket to be readable or writable, in a task while a
connection is being made, in a reader's callback from then on. TLS runs over memory buffers, so
that one system call moves many records, and what the network did not take yet stays in sight.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl

import anyio

#: What one `recv` takes: some units at several Gbit/s.
READ_BYTES = 1 << 18
#: Bytes that the kernel takes ahead of what it sends, at first.
_UNSENT_BYTES = 1 << 17
#: What was sent and not acknowledged for so long ends the connection.
_USER_TIMEOUT_MS = 10_000
_KEEPALIVE_SECONDS = 10
_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; the socket module has it from Python 3.12 on

#: Scratch space: every call is over before the next begins.
_RAW = memoryview(bytearray(READ_BYTES))


class Pipe:
    """A connection.

    Args:
        sock: Connected.

    Attributes:
        socket: The socket.
        tls: The TLS layer, None before `start_tls`.
        sent: Bytes that the network has taken.
        closed: Whether `close` was called.
    """

    __slots__ = ("_backlog", "_incoming", "_outgoing", "_unsent", "closed", "sent", "socket", "tls")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.tls: ssl.SSLObject | None = None
        self.sent = 0
        self.closed = False
        self._unsent = _UNSENT_BYTES
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        #: What the network did not take yet.
        self._backlog = memoryview(b"")
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS)

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, host: str | None = None
    ) -> None:
        """Put TLS on it; `handshake` makes it ready."""
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=host
        )

    def handshake(self) -> bool:
        """Go on with the TLS handshake as far as that can be; whether it is complete.

        Raises:
            ConnectionError: The other end is gone.
            ssl.SSLError: The other end did not keep to TLS, or shows what is not accepted.
            OSError: The connection is gone.
        """
        assert self.tls is not None
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()  # so little that it always fits
                size = self._recv()
                if size is None:
                    return False
                if not size:
                    raise ConnectionResetError(errno.ECONNRESET, "closed") from None
                self._incoming.write(_RAW[:size])
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.flush()  # the alert
                raise
            else:
                self.flush()
                return True

    def receive(self, buffer: memoryview) -> int | None:
        """Take what has come, as much as the buffer has room for.

        Args:
            buffer: Of `READ_BYTES` and a record of TLS at least.

        Returns:
            The number of bytes; 0 at the end of the stream, None if nothing has come.

        Raises:
            ssl.SSLError: The other end did not keep to TLS.
            OSError: The connection is gone.
        """
        size = self._recv()
        if self.tls is None:
            if size:
                buffer[:size] = _RAW[:size]
            return size
        if size:
            self._incoming.write(_RAW[:size])
        return self._decrypt(self.tls, buffer) or (None if size else size)

    @staticmethod
    def _decrypt(tls: ssl.SSLObject, buffer: memoryview) -> int:
        room = len(buffer)
        filled = 0
        with contextlib.suppress(ssl.SSLWantReadError):
            while filled < room:
                # One record a read; none after the end of TLS. With a buffer it returns a number.
                size: int = tls.read(room, buffer[filled:])  # type: ignore[assignment]
                if not size:
                    break
                filled += size
        return filled

    def _recv(self) -> int | None:
        try:
            return self.socket.recv_into(_RAW)
        except BlockingIOError:
            return None

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Send bytes, in order; whether the network took them all.

        Must not be called again before `flush` returned True if it did not.

        Raises:
            OSError: The connection is gone.
        """
        assert not self._backlog
        if self.tls is None:
            self._backlog = memoryview(bytes(data))
        else:
            self.tls.write(data)
        return self.flush()

    def flush(self) -> bool:
        """Send what the network did not take before; whether it has taken all now.

        Raises:
            OSError: The connection is gone.
        """
        if not self._backlog:
            self._backlog = memoryview(self._outgoing.read())
            if not self._backlog:
                return True
        try:
            sent = self.socket.send(self._backlog)
        except BlockingIOError:
            return False
        self.sent += sent
        self._backlog = self._backlog[sent:]
        return not self._backlog

    def limit_unsent(self, size: int) -> None:
        """Let the kernel take about so many bytes ahead of what it sends."""
        if not self._unsent / 2 < size < self._unsent * 2:
            self._unsent = size
            self.socket.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)

    def certificate(self) -> bytes:
        """The other end's certificate (DER); empty if it showed none."""
        assert self.tls is not None
        return self.tls.getpeercert(binary_form=True) or b""

    def close(self) -> None:
        """Close the connection; what waits is lost."""
        if not self.closed:
            self.closed = True
            anyio.notify_closing(self.socket)
            self.socket.close()

    def finish(self) -> None:
        """Say that nothing more will be sent, so that what was sent arrives before the close."""
        with contextlib.suppress(OSError):  # the other end may have had enough before that
            if self.tls is not None:
                with contextlib.suppress(ssl.SSLError):  # it wants to hear the same from there
                    self.tls.unwrap()
                self.flush()
            self.socket.shutdown(socket.SHUT_WR)
