"""A steady flow of numbered datagrams, as a program: sends, or counts what arrives.

``receive ADDRESS PORT`` prints, at the end of its input, how many of the numbers arrived and how
many more than once. ``send ADDRESS PORT BITS SIZE SECONDS`` prints how many it sent.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

_NUMBER = struct.Struct("!Q")
#: Datagrams are sent in bursts this far apart, as by a program with a timer.
_TICK = 0.002
#: After the last datagram was sent others may be on their way for so long.
_LINGER = 0.5


def receive(address: str, port: int) -> None:
    """Count until standard input ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind((address, port))
        sock.setblocking(False)
        print("ready", flush=True)  # noqa: T201
        seen: set[int] = set()
        repeated, ending = 0, 0.0
        while not ending or time.monotonic() < ending:
            readable = select.select([sock, *([] if ending else [sys.stdin])], [], [], 0.05)[0]
            if sys.stdin in readable:
                sys.stdin.read()
                ending = time.monotonic() + _LINGER
            if sock in readable:
                try:
                    while True:
                        (number,) = _NUMBER.unpack_from(sock.recv(65535))
                        repeated += number in seen
                        seen.add(number)
                except BlockingIOError:
                    pass
    print(len(seen), repeated)  # noqa: T201


def send(address: str, port: int, bits: float, size: int, seconds: float) -> None:
    """Send at a rate."""
    padding = bytes(size - _NUMBER.size)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * bits / 8 / size)
            # A sender that was held up does not make up for it in one burst.
            for _ in range(min(due - sent, 64)):
                sock.send(_NUMBER.pack(sent) + padding)
                sent += 1
            time.sleep(_TICK)
    print(sent)  # noqa: T201


if __name__ == "__main__":
    what, where, port_text, *rest = sys.argv[1:]
    if what == "receive":
        receive(where, int(port_text))
    else:
        send(where, int(port_text), float(rest[0]), int(rest[1]), float(rest[2]))
