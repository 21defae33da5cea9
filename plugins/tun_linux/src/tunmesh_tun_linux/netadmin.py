"""The helper process of a node that gives up its privileges: it keeps ``CAP_NET_ADMIN``, no more.

It changes addresses and routes of one device, inside the prefixes that it was told of when it was
started, and takes no other input than the node's requests. When the node ends it removes what it
added, and ends too. It never had a secret in its memory: it is a program of its own.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from tunmesh.errors import BadPacket
from tunmesh.privileges import CAP_NET_ADMIN, Account, keep_only
from tunmesh_tun_linux.requests import (
    ANSWER,
    BIND,
    REQUEST_SIZE,
    Allowance,
    Operation,
    Request,
    decode_request_untrusted,
)

#: Requests that are carried out at once, and each second from then on; more have to wait.
_BURST = 1000
_RATE = 100.0

_RULES = {Operation.ADD_RULE, Operation.REMOVE_RULE}


class Helper:
    """Carries out what is allowed.

    Args:
        netlink: The socket to the kernel.
        index: The only device that it touches.
        allowance: What may be asked for.
    """

    def __init__(self, netlink: IPRoute, index: int, allowance: Allowance) -> None:
        self._netlink = netlink
        self._index = index
        self._allowance = allowance
        self._added: dict[Request, None] = {}  # in order

    def answer(self, message: bytes) -> int:
        """Carry out a request; returns the error number."""
        try:
            request = decode_request_untrusted(message)
        except BadPacket:
            return errno.EINVAL
        if not self._allowance.allows(request):
            return errno.EACCES
        code = self._carry_out(request)
        if code == 0:
            if request.operation & 1:
                self._added.pop(request.reverse, None)
            else:
                self._added[request] = None
        return code

    def take_back(self) -> None:
        """Remove what was added and is still there, the last first."""
        while self._added:
            request, _ = self._added.popitem()
            self._carry_out(request.reverse)  # what is gone already is no matter

    def _carry_out(self, request: Request) -> int:
        method, command, arguments = request.call
        if method == "addr":
            arguments["index"] = self._index
        elif method == "route":
            arguments["oif"] = self._index
        try:
            getattr(self._netlink, method)(command, **arguments)
        except NetlinkError as exc:
            return int(exc.code)
        return 0


def serve(pair: socket.socket, netlink: IPRoute, allowance: Allowance) -> None:
    """Answer requests until the other end is closed."""
    first = pair.recv(BIND.size + 1)
    if len(first) != BIND.size:
        return
    helper = Helper(netlink, BIND.unpack(first)[0], allowance)
    credit, before = float(_BURST), time.monotonic()
    with suppress(ConnectionError):  # the node ended while it was being answered
        while message := pair.recv(REQUEST_SIZE + 1):
            now = time.monotonic()
            credit = min(credit + (now - before) * _RATE, _BURST) - 1
            before = now
            if credit < 0:
                time.sleep(-credit / _RATE)
            pair.send(ANSWER.pack(helper.answer(message)))
    helper.take_back()


def main(settings: dict[str, Any]) -> None:
    """Give up what is not needed, then serve.

    Args:
        settings: ``fd``, ``user`` (uid and gid), ``networks``, ``prefixes``.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the node, not before
    networks, prefixes = (
        tuple(map(ipaddress.ip_network, settings[name])) for name in ("networks", "prefixes")
    )
    with socket.socket(fileno=settings["fd"]) as pair, IPRoute(strict_check=True) as netlink:
        netlink.get_addr(index=1)  # imports what pyroute2 imports late: files may be out of reach
        keep_only(1 << CAP_NET_ADMIN, Account("", *settings["user"]))
        serve(pair, netlink, Allowance(networks, prefixes))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
