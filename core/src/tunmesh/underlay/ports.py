"""Whether this host can listen where a transport is told to, for ``tunmesh doctor``."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator

from tunmesh.interfaces.checks import Finding

_PROGRAMS = {socket.SOCK_DGRAM: ("udp", "ss -ulpn"), socket.SOCK_STREAM: ("tcp", "ss -tlpn")}


def check_ports(listen: Iterable[str], kind: socket.SocketKind) -> Iterator[Finding]:
    """Try to bind each address, as ``0.0.0.0:4567`` or ``[::]:4567``, and let go of it again.

    Args:
        listen: The addresses.
        kind: ``SOCK_DGRAM`` or ``SOCK_STREAM``.
    """
    for text in listen:
        host, _, port = text.rpartition(":")
        address, _, zone = host.strip("[]").partition("%")
        name, program = _PROGRAMS[kind]
        try:
            _bind(address, zone, int(port), kind)
        except OSError as error:
            reason = error.strerror or str(error)
            mend = {
                errno.EADDRINUSE: f"{program} 'sport = :{port}', and stop what listens there",
                errno.EACCES: f"sysctl -w net.ipv4.ip_unprivileged_port_start={port}",
                errno.EADDRNOTAVAIL: "another address in the plugin's listen",
                errno.EAFNOSUPPORT: "only addresses of IPv4 in the plugin's listen",
            }.get(error.errno or 0, "another address or port in the plugin's listen")
            yield Finding("ports", "broken", f"cannot listen on {name} {text}: {reason}", mend)
        else:
            yield Finding("ports", "ok", f"{name} {text} is free")


def _bind(address: str, zone: str, port: int, kind: socket.SocketKind) -> None:
    six = ipaddress.ip_address(address).version == 6
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind) as sock:
        if kind is socket.SOCK_STREAM:  # else a connection that has just ended would be in the way
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not six:
            sock.bind((address, port))
            return
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port, 0, socket.if_nametoindex(zone) if zone else 0))
