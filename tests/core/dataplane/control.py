"""A control plane that remembers, and a mesh of three nodes for it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface, ip_network

from tunmesh.dataplane import Port
from tunmesh.interfaces.policy import Route, RouteKind
from tunmesh.interfaces.transport import PathHandle
from tunmesh.routing import Fib
from tunmesh.session.keypair import Keypair

HERE, A, B = (letter * 32 for letter in "0ab")
#: Addresses of this node and of both others.
HERE4, A4, B4 = "10.42.0.1", "10.42.0.10", "10.42.0.11"
HERE6, A6, B6 = "fd42::1", "fd42::a", "fd42::b"
GROUP4, GROUP6 = "239.1.1.1", "ff05::1"
#: A group that this host is a member of.
OWN_GROUP4 = "239.2.2.2"


def route(prefix: str, kind: RouteKind, *peers: str) -> Route:
    return Route(ip_network(prefix), kind, peers)


ROUTES = (
    route(A4, "address", A),
    route(A6, "address", A),
    route(B4, "address", B),
    route(B6, "address", B),
    route("192.168.7.0/24", "subnet", A),
    route(GROUP4, "multicast", A, B),
    route(GROUP6, "multicast", A, B),
    route(OWN_GROUP4, "multicast", HERE),
)


class FakeControl:
    """Remembers what the data plane says.

    Attributes:
        ports: By node id.
        looked_up: How often the forwarding table was asked for.
        told: What was said, oldest first.
        woke: The ports that packets were for, after none for a while.
    """

    def __init__(self, *ports: Port, routes: Iterable[Route] = ROUTES) -> None:
        self.ports = {port.node_id: port for port in ports}
        self.looked_up = 0
        self.told: list[tuple[object, ...]] = []
        self.woke: list[Port] = []
        self.set_routes(routes)

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Use other routes from now on; remembered flows stay as they are."""
        self._fib = Fib(
            routes,
            addresses=map(ip_interface, (f"{HERE4}/24", f"{HERE6}/64")),
            networks=map(ip_network, ("10.42.0.0/16", "fd42::/48")),
            node_id=HERE,
        )

    def handshake(self, handle: PathHandle, datagram: bytes) -> None:
        self.told.append(("handshake", handle, datagram))

    def unknown_index(self, handle: PathHandle) -> None:
        self.told.append(("unknown index", handle))

    def heard(self, keypair: Keypair, handle: PathHandle) -> None:
        self.told.append(("heard", keypair, handle))

    def item(self, keypair: Keypair, handle: PathHandle, kind: int, body: bytes) -> None:
        self.told.append(("item", kind, body))

    def fib(self) -> Fib:
        self.looked_up += 1
        return self._fib

    def port(self, node_id: str) -> Port | None:
        return self.ports.get(node_id)

    def woken(self, port: Port) -> None:
        self.woke.append(port)

    def wanted(self, port: Port) -> None:
        self.told.append(("wanted", port))
