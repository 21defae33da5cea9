"""What the core hands to a plugin, for tests of plugins: no node, no event loop."""

from __future__ import annotations

import ipaddress
import select
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from anyio.abc import TaskGroup

from tunmesh.identity.secrets import Keyring
from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces.policy import RoutingPolicy
from tunmesh.interfaces.transport import Inbound, IssuedToken, PathHandle, TokenKind
from tunmesh.interfaces.tun import Buffer, Interface, Network
from tunmesh.testing.clock import VirtualClock

_SECRET = b"of-the-mesh-in-memory-0123456789abcdef"


class FakeWatch:
    """A descriptor that a `FakeReactor` watches."""

    def __init__(self, reactor: FakeReactor, fd: int) -> None:
        self._reactor = reactor
        self._fd = fd
        self._open = True

    def close(self) -> None:
        """Stop watching."""
        if self._open:
            self._open = False
            self._reactor.unwatch(self._fd)


class FakeReactor:
    """Watches real descriptors, but only while the test says so."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None]) -> FakeWatch:
        """As `tunmesh.interfaces.Reactor.watch`."""
        if fd in self._callbacks:
            raise ValueError(f"descriptor {fd} is watched already")
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLIN)
        return FakeWatch(self, fd)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        del self._callbacks[fd]
        self._poll.unregister(fd)

    @property
    def watched(self) -> frozenset[int]:
        """The descriptors being watched: none should be left when a plugin's object closed."""
        return frozenset(self._callbacks)

    def poll(self, timeout: float = 0.0) -> int:
        """Wait until something is readable, make the callbacks, and tell how many there were."""
        ready = self._poll.poll(timeout * 1000)
        for fd, _ in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:  # not closed by one of the callbacks before
                callback()
        return len(ready)

    def poll_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Poll until the condition holds.

        Raises:
            TimeoutError: Nothing was readable for `timeout` seconds, and it still does not hold.
        """
        while not condition():
            if not self.poll(timeout):
                raise TimeoutError(f"nothing happened for {timeout} seconds")


class FakeContext:
    """A `Context` of any role.

    Args:
        options: The plugin's options.
        name: The plugin's name.
        node_name: This node's name; the id is made from it.
        clock: Its `now` is the context's.
        reactor: A new one by default.
        tasks: Where the plugin's tasks run; without it they wait in `started`.

    Attributes:
        started: Tasks that the plugin started and that did not run yet; see `run_started`.
    """

    def __init__(
        self,
        options: object = None,
        *,
        name: str = "fake",
        node_name: str = "node",
        clock: VirtualClock | None = None,
        reactor: FakeReactor | None = None,
        tasks: TaskGroup | None = None,
    ) -> None:
        self.name = name
        self.options: Any = options
        self.node_name = node_name
        self.node_id = node_name.encode().hex().ljust(32, "0")[:32]
        self.clock = clock or VirtualClock()
        self.reactor = reactor or FakeReactor()
        self._tasks = tasks
        self.started: deque[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]]] = deque()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def now(self) -> float:
        """The clock's time."""
        return self.clock.now()

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run the task in the given task group, or remember it in `started`."""
        if self._tasks is None:
            self.started.append((function, args))
            return

        async def run() -> None:
            await function(*args)

        self._tasks.start_soon(run)

    def call_soon_threadsafe(self, function: Callable[..., None], *args: Any) -> None:
        """Remember the call; `run_calls` makes it."""
        self._calls.append((function, args))

    async def run_started(self) -> None:
        """Run the tasks in `started`, one after another, until none is left."""
        while self.started:
            function, args = self.started.popleft()
            await function(*args)

    def run_calls(self) -> None:
        """Make the calls that other threads asked for."""
        while self._calls:
            function, args = self._calls.popleft()
            function(*args)


class Received(NamedTuple):
    """One call of `Inbound.receive`."""

    handle: PathHandle
    data: bytes
    segment_size: int

    def datagrams(self) -> list[bytes]:
        """The datagrams one by one."""
        size = self.segment_size
        return [self.data[start : start + size] for start in range(0, len(self.data), size)]


class RecordingInbound:
    """An `Inbound` that remembers.

    Attributes:
        received: What was received, oldest first.
        refused: (handle, size) of datagrams that were too big.
        closed: (handle, reason) of paths that closed.
        changes: How often the local endpoints changed.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.refused: list[tuple[PathHandle, int]] = []
        self.closed: list[tuple[PathHandle, str]] = []
        self.changes = 0

    def receive(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Remember datagrams."""
        self.received.append(Received(handle, bytes(data), segment_size))

    def too_big(self, handle: PathHandle, size: int) -> None:
        """Remember a refusal."""
        self.refused.append((handle, size))

    def path_closed(self, handle: PathHandle, reason: str) -> None:
        """Remember a closed path."""
        self.closed.append((handle, reason))

    def endpoints_changed(self) -> None:
        """Count a change."""
        self.changes += 1

    def datagrams(self) -> list[bytes]:
        """All datagrams received so far, one by one."""
        return [datagram for entry in self.received for datagram in entry.datagrams()]


class FakeTransportContext(FakeContext):
    """A `TransportContext`.

    Args:
        options: The transport's options.
        inbound: Where datagrams go; a `RecordingInbound` by default.
        overlay: Prefixes that lie inside the mesh.
        secrets: The mesh secrets, the current one first.
        wall: Seconds since 1970, for the tokens; the clock's by default.
        mark: For the transport's sockets.
        **rest: As `FakeContext`.

    Attributes:
        inbound: Where datagrams go.
        mark: For the transport's sockets.
    """

    def __init__(
        self,
        options: object = None,
        *,
        inbound: Inbound | None = None,
        overlay: Iterable[str] = (),
        secrets: Collection[bytes] = (_SECRET,),
        wall: Callable[[], float] | None = None,
        mark: int = 0,
        **rest: Any,
    ) -> None:
        super().__init__(options, **rest)
        self._tokens = Tokens(
            self.node_id,
            bytes(8),
            Keyring(list(secrets), "test"),
            wall=wall or self.clock.now,
            clock=self.clock.now,
        )
        self.inbound: Any = RecordingInbound() if inbound is None else inbound
        self.mark = mark
        self._overlay = [ipaddress.ip_network(prefix) for prefix in overlay]

    def is_overlay(self, address: str) -> bool:
        """Whether one of the prefixes holds the address."""
        ip = ipaddress.ip_address(address)
        return any(ip in prefix for prefix in self._overlay)

    def issue_token(
        self, kind: TokenKind, claims: Mapping[str, str | int], attempt: int = 0
    ) -> IssuedToken:
        """Sign a token with a mesh secret, the first one unless others were refused."""
        return IssuedToken(*self._tokens.issue(kind, claims, attempt), self._tokens.attempts)

    def verify_token(
        self,
        kind: TokenKind,
        token: str,
        expected: Mapping[str, str | int | Collection[str]],
        *,
        source: bytes = b"",
    ) -> Mapping[str, str | int]:
        """Check a token, as a node does."""
        return self._tokens.verify(kind, token, expected, source=source)


class FakeTunContext(FakeContext):
    """A `TunContext`.

    Args:
        options: The backend's options.
        networks: The mesh networks.
        accept_subnets: What other nodes may announce.
        user: The uid and gid that the process is said to turn into.
        **rest: As `FakeContext`.

    Attributes:
        mesh_networks: The mesh networks.
        accept_subnets: What other nodes may announce.
        user: The uid and gid that the process is said to turn into.
        lost: Reasons for which the device was said to be gone.
    """

    def __init__(
        self,
        options: object = None,
        *,
        networks: Iterable[str] = (),
        accept_subnets: Iterable[str] = (),
        user: tuple[int, int] | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(options, **rest)
        self.mesh_networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, networks))
        self.accept_subnets: tuple[Network, ...] = tuple(map(ipaddress.ip_network, accept_subnets))
        self.user = user
        self.lost: list[str] = []

    def device_lost(self, reason: str) -> None:
        """Remember the reason."""
        self.lost.append(reason)


class FakePolicyContext(FakeContext):
    """A `PolicyContext`.

    Args:
        options: The policy's options.
        addresses: This node's own addresses with their prefixes.
        **rest: As `FakeContext`.

    Attributes:
        own_addresses: What `addresses` returns.
        other_nodes: What `nodes` returns.
        other_attributes: What `attributes` returns.
        other_names: What `node_names` returns.
        attribute: The attribute that is published; empty if none is.
        published: How often an attribute was set.
        changes: How often the routes changed.
        verdict_changes: How often the verdicts changed.
        device_routes: What the host routes into the device.
        written: The packets given to the host, oldest first.
        deadline: When the policy wants to be called.
    """

    def __init__(
        self, options: object = None, *, addresses: Iterable[str] = (), **rest: Any
    ) -> None:
        super().__init__(options, **rest)
        self.own_addresses = tuple(map(ipaddress.ip_interface, addresses))
        self.other_nodes: dict[str, tuple[IPv4Address | IPv6Address, ...]] = {}
        self.other_attributes: dict[str, bytes] = {}
        self.other_names: dict[str, str] = {}
        self.attribute = b""
        self.published = 0
        self.changes = 0
        self.verdict_changes = 0
        self.device_routes: tuple[Network, ...] = ()
        self.written: list[bytes] = []
        self.deadline = float("inf")

    def addresses(self) -> tuple[Interface, ...]:
        """The own addresses."""
        return self.own_addresses

    def nodes(self) -> dict[str, tuple[IPv4Address | IPv6Address, ...]]:
        """The other nodes."""
        return dict(self.other_nodes)

    def node_names(self) -> dict[str, str]:
        """The names of the other nodes."""
        return dict(self.other_names)

    def verdicts_changed(self) -> None:
        """Count a change."""
        self.verdict_changes += 1

    def attributes(self) -> dict[str, bytes]:
        """What the other nodes publish."""
        return dict(self.other_attributes)

    def routes_changed(self) -> None:
        """Count a change."""
        self.changes += 1

    def set_attribute(self, value: bytes) -> None:
        """Remember it."""
        self.attribute = value
        self.published += 1

    def set_device_routes(self, prefixes: Iterable[Network]) -> None:
        """Remember them."""
        self.device_routes = tuple(prefixes)

    def write_packet(self, packet: Buffer) -> None:
        """Remember it."""
        self.written.append(bytes(packet))

    def wake_at(self, deadline: float) -> None:
        """Remember the earliest."""
        self.deadline = min(self.deadline, deadline)

    def run_policy(self, policy: RoutingPolicy, until: float) -> None:
        """Let time pass, and call the policy at its deadlines."""
        while self.deadline <= until:
            self.clock.run_until(self.deadline)
            self.deadline = float("inf")
            policy.handle_timer(self.clock.now())
        self.clock.run_until(until)
