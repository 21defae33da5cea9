# ruff: noqa: T201  # a command-line program prints
"""Moves bytes over TCP, as a program of its own: ``transfer.py receive|send ADDRESS PORT …``.

Both ends print one line of JSON: how many bytes, their SHA-256, and how long it took. Run by path,
so it uses the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import sys
import time

BLOCK = 32 << 20


def receive(address: str, port: int) -> None:
    """Take one connection, and read it to its end."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        print("listening", flush=True)
        connection, _ = listener.accept()
        digest, count, began = hashlib.sha256(), 0, time.monotonic()
        buffer = memoryview(bytearray(1 << 20))
        with connection:
            while received := connection.recv_into(buffer):
                digest.update(buffer[:received])
                count += received
    report(count, digest.hexdigest(), began)


def send(address: str, port: int, size: int, seconds: float) -> None:
    """Send `size` bytes, or as many as go in some seconds if that is 0."""
    data = os.urandom(min(BLOCK, size or BLOCK))
    file = os.memfd_create("data")
    os.write(file, data)
    digest, count = hashlib.sha256(), 0
    with socket.create_connection((address, port)) as connection:
        began = time.monotonic()
        while count < size if size else time.monotonic() - began < seconds:
            # The number makes each block another, so that an exchange of two would be seen.
            header = struct.pack("!Q", count)
            connection.sendall(header)
            digest.update(header)
            offset = 0
            while offset < len(data):
                offset += os.sendfile(connection.fileno(), file, offset, len(data) - offset)
                if not size and time.monotonic() - began >= seconds:
                    break
            digest.update(data[:offset] if offset < len(data) else data)
            count += len(header) + offset
    report(count, digest.hexdigest(), began)


def report(count: int, digest: str, began: float) -> None:
    """Print the outcome."""
    seconds = time.monotonic() - began
    print(json.dumps({"bytes": count, "sha256": digest, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
