"""Listens and talks to a multicast group with ordinary sockets. Runs in workers."""

from __future__ import annotations

import socket
import struct
import time

from tunmesh_tun_linux.demo.worker import Report

GROUP = "239.1.2.3"
PORT = 5002
DATAGRAMS = 50
_SILENCE = 1.0  # seconds without a datagram after which all have come
_FIRST = 10.0  # seconds to wait for the first


def listen(report: Report, device: str) -> int:
    """Join the group on a device; reports when it has, returns how many datagrams came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((GROUP, PORT))
        # A `struct ip_mreqn`: group, no address, interface.
        request = struct.pack("@4s4xi", socket.inet_aton(GROUP), socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        report("joined")
        sock.settimeout(_FIRST)
        count = 0
        try:
            while True:
                sock.recv(2048)
                count += 1
                sock.settimeout(_SILENCE)
        except TimeoutError:
            return count


def talk(_report: Report) -> int:
    """Send to the group, without naming a device; returns how many datagrams were sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(DATAGRAMS):
            sock.sendto(b"tunmesh demo %d" % number, (GROUP, PORT))
            time.sleep(0.005)
    return DATAGRAMS
