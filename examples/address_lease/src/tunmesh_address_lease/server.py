"""A lease server for trying out: ``python -m tunmesh_address_lease.server --pool 10.42.0.0/24``.

It keeps its leases in memory and trusts whoever can reach it. Not for use in earnest.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_interface, ip_network

import msgspec

from tunmesh.interfaces.tun import Interface, Network

_MOST_BYTES = 65_536


class Leases:
    """Who has which addresses, until when: one of each pool.

    Args:
        pools: Where they are taken from.
        seconds: How long a lease is.
    """

    def __init__(self, pools: Iterable[Network], seconds: float) -> None:
        self.seconds = seconds
        self._pools = tuple(pools)
        self._taken: dict[Interface, tuple[str, float]] = {}

    def lease(self, node_id: str, wanted: Iterable[str], now: float) -> tuple[Interface, ...]:
        """Grant or renew a lease; empty if there is nothing left.

        Args:
            node_id: Who asks.
            wanted: Addresses that it had: it gets them again if they are free.
            now: The time.
        """
        self._taken = {each: (who, end) for each, (who, end) in self._taken.items() if end > now}
        own = [address for address, (who, _) in self._taken.items() if who == node_id]
        wishes = [*own, *(ip_interface(text) for text in wanted)]
        found = [self._choose(pool, node_id, wishes) for pool in self._pools]
        granted = tuple(address for address in found if address is not None)
        if len(granted) < len(self._pools):
            return ()
        self._taken.update(dict.fromkeys(granted, (node_id, now + self.seconds)))
        return granted

    def _choose(self, pool: Network, node_id: str, wishes: Sequence[Interface]) -> Interface | None:
        for wish in wishes:
            holder, _ = self._taken.get(wish, (node_id, 0.0))
            if wish.network == pool and holder == node_id:
                return wish
        for host in pool.hosts():
            address = ip_interface(f"{host}/{pool.prefixlen}")
            if address not in self._taken:
                return address
        return None

    def release(self, node_id: str) -> None:
        """Take a lease back."""
        self._taken = {each: held for each, held in self._taken.items() if held[0] != node_id}


class _Question(msgspec.Struct):
    addresses: list[str] = []
    name: str = ""


class LeaseServer(ThreadingHTTPServer):
    """The server.

    Args:
        address: Where to listen.
        leases: What it grants.
        token: That it asks for, if any.
        clock: The time.
    """

    def __init__(
        self,
        address: tuple[str, int],
        leases: Leases,
        token: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(address, _Handler)
        self.leases = leases
        self.token = token
        self.clock = clock
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LeaseServer
    timeout = 10

    def do_POST(self) -> None:
        node_id = self._node_id()
        length = int(self.headers.get("Content-Length", "0"))
        if node_id is None or not 0 <= length <= _MOST_BYTES:
            return
        try:
            question = msgspec.json.decode(self.rfile.read(length), type=_Question)
            with self.server.lock:
                now = self.server.clock()
                granted = self.server.leases.lease(node_id, question.addresses, now)
        except ValueError:
            self._answer(400)
            return
        if not granted:
            self._answer(503)
            return
        addresses = [str(address) for address in granted]
        self._answer(200, {"addresses": addresses, "seconds": self.server.leases.seconds})

    def do_DELETE(self) -> None:
        node_id = self._node_id()
        if node_id is not None:
            with self.server.lock:
                self.server.leases.release(node_id)
            self._answer(204)

    def _node_id(self) -> str | None:
        """Whose lease it is about; None if that was answered already."""
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            self._answer(401)
            return None
        _, _, node_id = self.path.partition("/leases/")
        if len(node_id) != 32 or not node_id.isalnum():
            self._answer(404)
            return None
        return node_id

    def _answer(self, status: int, document: object = None) -> None:
        body = b"" if document is None else msgspec.json.encode(document)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", action="append", type=ip_network, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8067)
    options = parser.parse_args(arguments)
    leases = Leases(options.pool, options.seconds)
    with LeaseServer((options.host, options.port), leases) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
