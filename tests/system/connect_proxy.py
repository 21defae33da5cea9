"""An HTTP proxy that knows CONNECT only, as a program of its own: ``connect_proxy.py PORT``."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading


def copy(source: socket.socket, target: socket.socket) -> None:
    """Move bytes one way until that way is over."""
    buffer = memoryview(bytearray(1 << 18))
    with contextlib.suppress(OSError):
        while size := source.recv_into(buffer):
            target.sendall(buffer[:size])
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Handler(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().split()
        while self.rfile.readline().strip():
            pass
        assert method == b"CONNECT", method
        host, _, port = target.decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=copy, args=(there, self.connection))
            back.start()
            copy(self.connection, there)
            back.join()


class Server(socketserver.ThreadingTCPServer):
    """All clients."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("0.0.0.0", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
