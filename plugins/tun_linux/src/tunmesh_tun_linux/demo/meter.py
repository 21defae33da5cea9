"""Measures throughput between two namespaces with ordinary sockets. Runs in workers."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from tunmesh_tun_linux.demo.worker import Report

PORT = 5001
_TCP_CHUNK = 256 * 1024
_RECEIVE_BUFFER = 8 << 20
_REPORT_INTERVAL = 0.2
_SILENCE = 0.5  # seconds without a datagram after which a UDP flow is over
_FIRST = 5.0  # seconds to wait for the first of anything


@dataclass(frozen=True)
class Flow:
    """What arrived.

    Attributes:
        bytes: Bytes of payload.
        packets: Datagrams; 0 for TCP.
        seconds: From the first to the last of them.
    """

    bytes: int
    packets: int
    seconds: float

    @property
    def bits_per_second(self) -> float:
        """Payload only."""
        return self.bytes * 8 / self.seconds if self.seconds else 0.0

    @property
    def packets_per_second(self) -> float:
        """Datagrams that arrived."""
        return self.packets / self.seconds if self.seconds else 0.0


def tcp_receive(report: Report, address: str) -> Flow:
    """Take one TCP connection and everything that comes on it; reports the flow so far."""
    with socket.create_server((address, PORT), family=_family(address)) as listener:
        listener.settimeout(_FIRST)
        report(Flow(0, 0, 0.0))
        connection, _ = listener.accept()
    buffer = bytearray(_TCP_CHUNK)
    received = 0
    with connection:
        start = last = reported = time.perf_counter()
        while count := connection.recv_into(buffer):
            received += count
            last = time.perf_counter()
            if last - reported > _REPORT_INTERVAL:
                reported = last
                report(Flow(received, 0, last - start))
    return Flow(received, 0, last - start)


def tcp_send(_report: Report, address: str, seconds: float) -> None:
    """Send on one TCP connection as fast as it goes."""
    data = bytes(_TCP_CHUNK)
    with socket.create_connection((address, PORT), timeout=_FIRST) as connection:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.sendall(data)


def udp_receive(report: Report, address: str) -> Flow:
    """Take datagrams until no more come; reports the flow so far."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind((address, PORT))
        sock.settimeout(_FIRST)
        report(Flow(0, 0, 0.0))
        buffer = bytearray(65536)
        received = len(sock.recv(65536))
        packets = 1
        sock.settimeout(_SILENCE)
        start = last = reported = time.perf_counter()
        while True:
            try:
                received += sock.recv_into(buffer)
            except TimeoutError:
                return Flow(received, packets, last - start)
            packets += 1
            last = time.perf_counter()
            if last - reported > _REPORT_INTERVAL:
                reported = last
                report(Flow(received, packets, last - start))


def udp_send(_report: Report, address: str, size: int, seconds: float) -> int:
    """Send datagrams as fast as it goes; returns how many."""
    data = bytes(size)
    sent = 0
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(16):
                sock.send(data)
            sent += 16
    return sent


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
