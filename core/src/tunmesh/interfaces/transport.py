"""The role ``transport``: a carrier of opaque datagrams between two endpoints.

A transport is trusted with nothing: what it carries is sealed end to end. It may lose, repeat
and reorder datagrams, but keeps their bounds. An *endpoint* is a URL, ``udp://198.51.100.1:4567``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self, TypeAlias

from tunmesh.interfaces.common import Context
from tunmesh.interfaces.tun import Buffer


class PathHandle:
    """One remote endpoint of one transport: where datagrams go to and come from.

    The transport makes it, and passes the *same object* with every datagram of that endpoint once
    the core has adopted it (`Transport.adopt`).

    Attributes:
        transport: The transport that made it.
        endpoint: The remote endpoint as a URL with a literal address.
        source: Bytes by which strangers are rate-limited: the IPv4 address, or the /64 of an
            IPv6 address.
        max_datagram: Bytes of the largest datagram that the transport will try to carry. What
            really passes is found by probes, if the transport says so (`Transport.probes_mtu`).
        rx_bytes: Bytes of the datagrams that came from there; counted by the core.
        tx_bytes: Bytes of the datagrams sent there; counted by the core.
    """

    __slots__ = (
        "__weakref__",
        "endpoint",
        "max_datagram",
        "rx_bytes",
        "source",
        "transport",
        "tx_bytes",
    )

    def __init__(
        self, transport: Transport, endpoint: str, *, source: bytes, max_datagram: int
    ) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.source = source
        self.max_datagram = max_datagram
        self.rx_bytes = 0
        self.tx_bytes = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint}>"


class Inbound(Protocol):
    """Where a transport delivers what happens. All methods are for the event loop only."""

    def receive(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Take one or more datagrams that arrived from one endpoint.

        Args:
            handle: Where they came from.
            data: Their bytes, one after another; valid only until the call returns. Passing
                slices of the same buffer each time is fastest.
            segment_size: Bytes of each datagram but the last, which may be shorter. Equal to
                ``len(data)`` for a single datagram.
        """

    def too_big(self, handle: PathHandle, size: int) -> None:
        """A datagram of `size` bytes was refused as too large for the path (a hint)."""

    def path_closed(self, handle: PathHandle, reason: str) -> None:
        """The path is gone for good, as when a stream ended; `adopt` no longer holds."""

    def endpoints_changed(self) -> None:
        """The transport's `local_endpoints` are not what they were, as when an address came."""


TokenKind: TypeAlias = Literal["request", "answer"]


class IssuedToken(NamedTuple):
    """A token that was made.

    Attributes:
        text: To send.
        id: Its ``jti`` claim, which the answer to the request repeats.
        attempts: How many attempts yield different tokens: one for each of this node's secrets.
    """

    text: str
    id: str
    attempts: int = 1


class TransportContext(Context, Protocol):
    """What the factory of a transport is given.

    Attributes:
        inbound: Where to deliver datagrams.
        mark: For the sockets (``SO_MARK``), so that what they send never enters the tunnel; 0 if
            no mark is needed, since nothing but the mesh is routed into it.
    """

    @property
    def inbound(self) -> Inbound: ...
    @property
    def mark(self) -> int: ...

    def is_overlay(self, address: str) -> bool:
        """Whether an IP address lies inside the mesh: it must not be used as an endpoint."""

    def issue_token(
        self, kind: TokenKind, claims: Mapping[str, str | int], attempt: int = 0
    ) -> IssuedToken:
        """Sign a JSON Web Token with the mesh secret, for a request or for the answer to one.

        Args:
            kind: Which of the two; one is never taken for the other.
            claims: What it is bound to. The issuer, the time and a unique id are added; the
                audience is any node of the mesh unless there is an ``aud``.
            attempt: How many tokens for this request were refused. While the secret of a mesh is
                being changed nodes have several, and the other one may lack the first of them.
        """

    def verify_token(
        self,
        kind: TokenKind,
        token: str,
        expected: Mapping[str, str | int | Collection[str]],
        *,
        source: bytes = b"",
    ) -> Mapping[str, str | int]:
        """Check a token that came from outside, and return its claims.

        A request's is accepted once, and for about a minute.

        Args:
            kind: What it must be.
            token: As it came.
            expected: Claims that it must have, each with its value or the values allowed.
            source: As of a `PathHandle`; a nonce is good for one source.

        Raises:
            StaleToken: It is authentic but old, or the clocks differ. It carries a nonce: with
                that as its claim ``nonce`` a new token is accepted whatever its time.
            BadToken: Anything else is wrong.
        """


class Transport(ABC):
    """A carrier of datagrams.

    Entering the context starts listening; leaving it closes everything. `send` is called from the
    event loop only and never blocks.
    """

    #: The plugin's name.
    name: str = ""
    #: URL schemes that `connect` understands.
    schemes: frozenset[str] = frozenset()
    #: Among live paths to a peer the one with the largest priority is used.
    priority: int = 0
    #: Datagrams that one `send` may carry.
    max_segments: int = 1
    #: Bytes that one `send` may carry.
    max_send: int = 65507
    #: Whether the way between two endpoints may be too narrow for `PathHandle.max_datagram`, as
    #: with datagrams that nobody cuts up: the core then probes what passes.
    probes_mtu: bool = False
    #: Whether others can reach this node at the address that its datagrams are seen to come from,
    #: as with UDP through a NAT; not so where each connection has a port of its own.
    reveals_endpoint: bool = True

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Start listening.

        Raises:
            TransportError: One line that says what failed and how to mend it.
        """

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""

    @abstractmethod
    def local_endpoints(self) -> tuple[str, ...]:
        """Endpoints by which other nodes may reach this transport, best first."""

    async def resolve(self, url: str) -> tuple[str, ...]:
        """Endpoints with literal addresses that a URL of the configuration stands for.

        Raises:
            EndpointError: The URL is malformed or its name cannot be resolved.
        """
        return (url,)

    @abstractmethod
    def connect(self, endpoint: str) -> PathHandle:
        """A handle for sending to an endpoint; does not wait.

        The same endpoint gives the same handle as long as it is adopted.

        Raises:
            EndpointError: The endpoint is malformed or of a family that this host lacks.
        """

    @abstractmethod
    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        """Send the concatenation of `buffers` as datagrams of `segment_size` bytes.

        The last datagram may be shorter. At most `max_segments` datagrams and `max_send` bytes.
        The buffers are valid only until the call returns.

        Returns:
            False if the datagrams were dropped because a queue is full. Other failures (no route,
            refused) are the transport's to count; the datagrams are then lost, which is no error.
        """

    @abstractmethod
    def adopt(self, handle: PathHandle) -> None:
        """Keep the handle: the core uses it as a path. Strangers' handles are not adopted."""

    @abstractmethod
    def release(self, handle: PathHandle) -> None:
        """Forget the handle: the core uses it no longer. Unknown handles are ignored."""

    def overruns(self) -> int:
        """How many datagrams were lost so far because this host did not read them in time.

        Such loss is not the path's: what travels is not made smaller because of it.
        """
        return 0

    def statistics(self) -> dict[str, int]:
        """Counters to show to operators, by name."""
        return {}
