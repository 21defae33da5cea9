"""ICMP echo for IPv4 and IPv6. Runs in a worker, inside a node's namespace."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Sequence

from tunmesh_tun_linux.demo.worker import Report

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_PAYLOAD = bytes(48)  # 56 bytes with the header, as ping sends

#: By address family: protocol, type of a request, type of a reply (RFC 792, RFC 4443).
_PROTOCOLS = {
    socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0),
    socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129),
}


def ping(
    report: Report, targets: Sequence[str], count: int, timeout: float
) -> dict[str, list[float | None]]:
    """Ping each target, one request after the other's reply.

    Args:
        report: Is told each target that is done.
        targets: Addresses; a link-local one with its zone.
        count: Requests to each.
        timeout: Seconds to wait for each reply.

    Returns:
        For each target the round-trip times in seconds; None where no reply came.
    """
    results: dict[str, list[float | None]] = {}
    for target in targets:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_RAW, _PROTOCOLS[family][0]) as sock:
            sock.connect(_socket_address(target))
            results[target] = [
                _echo(sock, family, sequence, timeout) for sequence in range(1, count + 1)
            ]
        report(target)
    return results


def _socket_address(target: str) -> tuple[str, int] | tuple[str, int, int, int]:
    address, _, device = target.partition("%")
    if ":" not in address:
        return (address, 0)
    return (address, 0, 0, socket.if_nametoindex(device) if device else 0)


def _echo(
    sock: socket.socket, family: socket.AddressFamily, sequence: int, timeout: float
) -> float | None:
    _, request, reply = _PROTOCOLS[family]
    identifier = os.getpid() & 0xFFFF
    message = _HEADER.pack(request, 0, 0, identifier, sequence) + _PAYLOAD
    if family == socket.AF_INET:  # for ICMPv6 the kernel does it
        message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    start = time.perf_counter()
    sock.send(message)
    while (left := start + timeout - time.perf_counter()) > 0:
        sock.settimeout(left)
        try:
            answer = sock.recv(2048)
        except TimeoutError:
            break
        # A raw IPv4 socket delivers the IP header as well.
        icmp = answer[(answer[0] & 0x0F) * 4 :] if family == socket.AF_INET else answer
        kind, _, _, their_identifier, their_sequence = _HEADER.unpack_from(icmp)
        if (kind, their_identifier, their_sequence) == (reply, identifier, sequence):
            return time.perf_counter() - start
    return None


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
