"""A network in memory: thousands of endpoints, seeded faults, no event loop and no sockets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from tunmesh.errors import EndpointError, TransportError
from tunmesh.testing.clock import Timer, VirtualClock
from tunmesh.testing.faults import Faults, Nat, NatKind

if TYPE_CHECKING:
    from tunmesh.interfaces.tun import Buffer

SCHEME = "memory"


def format_endpoint(host: str, port: int, scheme: str = SCHEME) -> str:
    """The endpoint of a port of a host."""
    return f"{scheme}://{host}:{port}"


def host_of(endpoint: str) -> str:
    """The host of an endpoint ``memory://host:port``, whatever its scheme.

    Raises:
        EndpointError: It is no such endpoint.
    """
    scheme, _, authority = endpoint.partition("://")
    host, _, port = authority.rpartition(":")
    if not scheme or not host or not port.isdecimal():
        raise EndpointError(f"{endpoint!r} is not an endpoint of the form {SCHEME}://host:port")
    return host


class Receiver(Protocol):
    """What is bound to an endpoint."""

    def deliver(self, source: str, data: bytes, segment_size: int) -> None:
        """Take one or more datagrams; as `tunmesh.interfaces.Inbound.receive`."""


class MemoryNetwork:
    """Carries datagrams between endpoints ``memory://host:port``.

    Args:
        seed: Of every random decision: the same seed and the same calls give the same run.
        clock: Shared with whatever else shall run on it; a new one by default.
        faults: How the network behaves where nothing else is said.

    Attributes:
        clock: The time; `run_until` and `call_at` are its methods.
        faults: The default, may be changed at any time.
        tap: Called with (source, destination, datagrams) for every send, before any fault.
        statistics: Datagrams by what became of them: ``sent``, ``delivered``, ``lost``,
            ``duplicated``, ``too_big``, ``partitioned``, ``filtered`` (by a NAT), ``unreachable``
            (nothing is bound there).
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        clock: VirtualClock | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.faults = faults or Faults()
        self.tap: Callable[[str, str, bytes], None] | None = None
        self.statistics = dict.fromkeys(
            (
                "sent",
                "delivered",
                "lost",
                "duplicated",
                "too_big",
                "partitioned",
                "filtered",
                "unreachable",
            ),
            0,
        )
        self._random = random.Random(seed)
        self._bound: dict[str, Receiver] = {}
        self._hosts: dict[str, str] = {}  # by endpoint: parsing once is enough
        self._links: dict[tuple[str, str], Faults] = {}
        self._groups: dict[str, int] = {}
        self._nats: dict[str, Nat] = {}  # by the NAT's own host
        self._behind: dict[str, Nat] = {}  # by the host inside

    # Time

    def now(self) -> float:
        """The time."""
        return self.clock.now()

    def call_at(self, when: float, function: Callable[..., object], *args: Any) -> Timer:
        """Plan a call."""
        return self.clock.call_at(when, function, *args)

    def run_until(self, deadline: float) -> None:
        """Let time pass, delivering datagrams and making planned calls in order."""
        self.clock.run_until(deadline)

    # Shape

    def bind(self, endpoint: str, receiver: Receiver) -> None:
        """Deliver what is sent to an endpoint.

        Raises:
            TransportError: The endpoint is taken.
            EndpointError: It is malformed.
        """
        host_of(endpoint)
        if endpoint in self._bound:
            raise TransportError(f"cannot listen on {endpoint}: address already in use")
        self._bound[endpoint] = receiver

    def unbind(self, endpoint: str) -> None:
        """What is sent to the endpoint, or is on the way to it, is lost from now on."""
        self._bound.pop(endpoint, None)

    def set_faults(self, source: str, destination: str, faults: Faults | None) -> None:
        """Say how the way from one host to another behaves, in this direction; None: as others."""
        if faults is None:
            self._links.pop((source, destination), None)
        else:
            self._links[source, destination] = faults

    def partition(self, *groups: Iterable[str]) -> None:
        """Let datagrams pass within each group of hosts only; unnamed hosts are one more group."""
        self._groups = {host: number for number, group in enumerate(groups, 1) for host in group}

    def heal(self) -> None:
        """End the partition."""
        self._groups = {}

    def add_nat(
        self,
        host: str,
        inside: Iterable[str],
        kind: NatKind = "port_restricted",
        timeout: float = 120.0,
    ) -> Nat:
        """Put hosts behind a translator, whose own name outside is `host`."""
        nat = self._nats[host] = Nat(host, kind, timeout, format_endpoint)
        self._behind.update(dict.fromkeys(inside, nat))
        return nat

    # Datagrams

    def send(self, source: str, destination: str, data: Buffer, segment_size: int = 0) -> None:
        """Send datagrams of `segment_size` bytes, of which the last may be shorter.

        Without a segment size, `data` is one datagram; nothing is sent if it is empty. `source`
        need not be bound: a test may thus send what no transport would.
        """
        payload = bytes(data)
        if not payload:
            return
        size = min(segment_size, len(payload)) or len(payload)
        if self.tap is not None:
            self.tap(source, destination, payload)
        sender, target = self._host(source), self._host(destination)
        datagrams = -(-len(payload) // size)
        self.statistics["sent"] += datagrams
        if self._groups and self._groups.get(sender) != self._groups.get(target):
            self.statistics["partitioned"] += datagrams
            return
        faults = self._links.get((sender, target), self.faults)
        if faults.mtu is not None and size > faults.mtu:
            self.statistics["too_big"] += datagrams
            return
        nat = self._behind.get(sender)
        if nat is not None and nat is not self._behind.get(target):
            source = nat.outbound(source, destination, self.clock.now())
        if faults.orderly:
            self._post(faults.delay, source, destination, payload, size)
            return
        for start in range(0, len(payload), size):
            self._send_one(faults, source, destination, payload[start : start + size])

    def _send_one(self, faults: Faults, source: str, destination: str, datagram: bytes) -> None:
        draw = self._random.random
        copies = 1
        if faults.loss and draw() < faults.loss:
            self.statistics["lost"] += 1
            return
        if faults.duplicate and draw() < faults.duplicate:
            self.statistics["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            delay = faults.delay + (draw() * faults.jitter if faults.jitter else 0.0)
            self._post(delay, source, destination, datagram, len(datagram))

    def _post(self, delay: float, source: str, destination: str, data: bytes, size: int) -> None:
        self.clock.post(self.clock.now() + delay, self._arrive, source, destination, data, size)

    def _arrive(self, source: str, destination: str, data: bytes, segment_size: int) -> None:
        outcome = "unreachable"
        if self._nats:
            destination, outcome = self._translate(source, destination)
        receiver = self._bound.get(destination)
        if receiver is not None:
            outcome = "delivered"
        self.statistics[outcome] += -(-len(data) // segment_size)
        if receiver is not None:
            receiver.deliver(source, data, segment_size)

    def _translate(self, source: str, destination: str) -> tuple[str, str]:
        """Where a datagram is for behind NATs, and what became of it if nothing is bound there."""
        target = self._host(destination)
        nat = self._nats.get(target)
        if nat is not None:
            inside = nat.inbound(destination, source, self.clock.now())
            return (inside, "unreachable") if inside is not None else ("", "filtered")
        private = self._behind.get(target)
        if private is not None and private is not self._behind.get(self._host(source)):
            return "", "unreachable"  # an endpoint inside, from outside
        return destination, "unreachable"

    def _host(self, endpoint: str) -> str:
        host = self._hosts.get(endpoint)
        if host is None:
            host = self._hosts[endpoint] = host_of(endpoint)
        return host
