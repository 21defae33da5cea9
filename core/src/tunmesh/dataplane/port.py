"""What the data plane sees of a peer, and what it tells the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tunmesh.session.units import Reassembler

if TYPE_CHECKING:
    from tunmesh.dataplane.verdicts import Memory
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.routing.fib import Fib
    from tunmesh.session.keypair import Keypair


class Port:
    """What the data plane sees of a peer. Plain attributes, set by whoever manages the peer."""

    __slots__ = (
        "bulk_limit",
        "handle",
        "hop",
        "judged",
        "node_id",
        "reassembler",
        "rx_bytes",
        "rx_handle",
        "rx_keypair",
        "rx_packets",
        "slice_size",
        "staged",
        "tx_bytes",
        "tx_keypair",
        "tx_packets",
        "used",
        "verified",
    )

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        #: Seals what is sent; None while there is no session.
        self.tx_keypair: Keypair | None = None
        #: Where to send; None while no path is alive.
        self.handle: PathHandle | None = None
        #: Payload bytes of one slice on that path.
        self.slice_size = 0
        #: Bytes of the largest unit that the path's loss allows; 0 for no limit.
        self.bulk_limit = 0
        #: What authentic units are expected with; anything else is told to the control plane.
        self.rx_keypair: Keypair | None = None
        self.rx_handle: PathHandle | None = None
        self.reassembler = Reassembler()
        #: (source, destination) pairs that this peer was found to be allowed.
        self.verified: set[int | bytes] = set()
        #: What policies said of its flows, if any policy wants to be asked.
        self.judged: Memory = {}
        #: What waits for a session: since when, frames, how many packets and bytes of IP they are.
        self.staged: list[tuple[float, bytes, int, int]] = []
        #: The hop of routes that lead to this peer alone.
        self.hop = (self,)
        #: Set when packets are sent, cleared by the control plane now and then.
        self.used = False
        self.tx_packets = self.tx_bytes = self.rx_packets = self.rx_bytes = 0

    def forget_flows(self) -> None:
        """Routes changed, or what policies say: decide about every flow of this peer anew."""
        self.verified.clear()
        self.judged.clear()


class Control(Protocol):
    """What the data plane tells the control plane."""

    def handshake(self, handle: PathHandle, datagram: bytes) -> None:
        """A datagram that is no data."""

    def unknown_index(self, handle: PathHandle) -> None:
        """Data for a keypair that does not exist here."""

    def heard(self, keypair: Keypair, handle: PathHandle) -> None:
        """An authentic unit came under a keypair or along a path that is not the expected one."""

    def item(self, keypair: Keypair, handle: PathHandle, kind: int, body: bytes) -> None:
        """An item that is no frame."""

    def fib(self) -> Fib:
        """The forwarding table."""

    def port(self, node_id: str) -> Port | None:
        """The port of a node that a route leads to; None if it is gone."""

    def woken(self, port: Port) -> None:
        """Packets for a peer, the first for a while."""

    def wanted(self, port: Port) -> None:
        """Packets wait for a peer that has no session."""
