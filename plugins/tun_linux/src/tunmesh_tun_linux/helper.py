"""The node's side of the helper process: starts it, and sends it requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyroute2 import NetlinkError

from tunmesh.errors import TunError
from tunmesh_tun_linux.commands import interpreter_environment
from tunmesh_tun_linux.requests import ANSWER, BIND, request

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from tunmesh.interfaces.tun import Network

_TIMEOUT = 10.0  # of one request; a helper that must slow down answers later, but not so late


class HelperProcess:
    """A process that changes addresses and routes for one that cannot.

    Args:
        user: The uid and gid that it is to have.
        networks: The mesh networks.
        prefixes: Further prefixes that it may route into the device.

    Attributes:
        pidfd: Turns readable when the process ends.

    Raises:
        TunError: It cannot be started.
    """

    def __init__(
        self, user: tuple[int, int], networks: Iterable[Network], prefixes: Iterable[Network]
    ) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_TIMEOUT)
        settings = {
            "fd": theirs.fileno(),
            "user": user,
            "networks": list(map(str, networks)),
            "prefixes": list(map(str, prefixes)),
        }
        program = [sys.executable, "-P", "-m", "tunmesh_tun_linux.netadmin", json.dumps(settings)]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # a module of ours
                    program,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=interpreter_environment(),
                    cwd="/",
                    start_new_session=True,  # what ends the node from a terminal must not end it
                )
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError as exc:
            self._socket.close()
            raise TunError(f"cannot start the helper process: {exc.strerror}") from exc

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def bind(self, index: int) -> None:
        """Tell it the device, once and for all."""
        self._exchange(BIND.pack(index), answered=False)

    def change(self, method: str, command: str, arguments: dict[str, Any]) -> None:
        """Have something changed, named as a method of `pyroute2.IPRoute` is.

        Raises:
            NetlinkError: The kernel or the helper refused.
            TunError: The helper does not answer.
        """
        answer = self._exchange(request(method, command, arguments).encode(), answered=True)
        (code,) = ANSWER.unpack(answer)
        if code:
            raise NetlinkError(code, os.strerror(code))

    def _exchange(self, message: bytes, *, answered: bool) -> bytes:
        try:
            self._socket.send(message)
            answer = self._socket.recv(ANSWER.size) if answered else b""
        except OSError as exc:
            raise TunError(f"the helper process does not answer: {exc}") from exc
        if answered and not answer:
            raise TunError("the helper process has ended")
        return answer

    def close(self) -> None:
        """Let it take back what it added, and end."""
        self._socket.close()
        try:
            self._process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.pidfd)


class HelpedNetlink:
    """A netlink socket that looks things up by itself, and has them changed by a helper process.

    Args:
        netlink: The socket.
        helper: The helper.
    """

    def __init__(self, netlink: IPRoute, helper: HelperProcess) -> None:
        self._netlink = netlink
        self._helper = helper

    def addr(self, command: str, *, index: int, **arguments: Any) -> None:  # noqa: ARG002  # bound
        """As `pyroute2.IPRoute.addr`."""
        self._helper.change("addr", command, arguments)

    def route(self, command: str, *, oif: int, **arguments: Any) -> None:  # noqa: ARG002  # bound
        """As `pyroute2.IPRoute.route`."""
        self._helper.change("route", command, arguments)

    def rule(self, command: str, **arguments: Any) -> None:
        """As `pyroute2.IPRoute.rule`."""
        self._helper.change("rule", command, arguments)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever it is there
        return getattr(self._netlink, name)
