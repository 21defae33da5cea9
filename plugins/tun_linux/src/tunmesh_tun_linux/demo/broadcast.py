"""Broadcasts by ordinary UDP sockets. Runs in workers, inside the nodes' namespaces."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence

from tunmesh_tun_linux.demo.worker import Report

_PORT = 5002
_FIRST = 5.0  # seconds to wait for the first datagram
_SILENCE = 0.5  # seconds without a datagram after which there are no more


def receive(report: Report) -> dict[str, int]:
    """How many datagrams came for each address that they were sent to."""
    counts: Counter[str] = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", _PORT))
        report("listening")
        sock.settimeout(_FIRST)
        try:
            while True:
                counts[sock.recv(64).decode()] += 1
                sock.settimeout(_SILENCE)
        except TimeoutError:
            return dict(counts)


def send(_report: Report, source: str, targets: Sequence[str]) -> None:
    """Send one datagram to each address; it tells the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((source, 0))
        for target in targets:
            sock.sendto(target.encode(), (target, _PORT))
