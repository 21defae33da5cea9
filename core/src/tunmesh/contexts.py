"""What the node hands to plugins: one small object for each plugin and role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Protocol

from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces import Inbound, IssuedToken, Reactor, TokenKind
from tunmesh.interfaces.tun import Buffer, Interface, Network

if TYPE_CHECKING:
    from tunmesh.mesh import Mesh


class Host(Protocol):
    """What the contexts need of the node."""

    @property
    def reactor(self) -> Reactor:
        """Watches descriptors."""

    def now(self) -> float:
        """The node's clock."""

    def spawn(
        self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        """Run a plugin's task, contained."""

    def call_soon_threadsafe(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Run a function on the event loop."""

    def device_lost(self, reason: str) -> None:
        """End the node: its device is gone."""

    def set_addresses(self, provider: str, addresses: tuple[Interface, ...]) -> None:
        """What an address provider contributes."""


@dataclass(frozen=True)
class NodeContext:
    """See `tunmesh.interfaces.Context`."""

    host: Host
    name: str
    options: Any
    node_id: str
    node_name: str
    mesh_networks: tuple[Network, ...]

    @property
    def reactor(self) -> Reactor:
        """Watches descriptors."""
        return self.host.reactor

    def now(self) -> float:
        """The node's clock."""
        return self.host.now()

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task, contained."""
        self.host.spawn(self.name, function, args)

    def call_soon_threadsafe(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function on the event loop."""
        self.host.call_soon_threadsafe(function, args)


@dataclass(frozen=True)
class TunNodeContext(NodeContext):
    """See `tunmesh.interfaces.TunContext`."""

    accept_subnets: tuple[Network, ...] = ()
    user: tuple[int, int] | None = None

    def device_lost(self, reason: str) -> None:
        """The device is gone for good."""
        self.host.device_lost(reason)


@dataclass(frozen=True)
class TransportNodeContext(NodeContext):
    """See `tunmesh.interfaces.TransportContext`."""

    inbound: Inbound
    tokens: Tokens
    mark: int = 0

    def issue_token(
        self, kind: TokenKind, claims: Mapping[str, str | int], attempt: int = 0
    ) -> IssuedToken:
        """Sign a token with a mesh secret, the first one unless others were refused."""
        return IssuedToken(*self.tokens.issue(kind, claims, attempt), self.tokens.attempts)

    def verify_token(
        self,
        kind: TokenKind,
        token: str,
        expected: Mapping[str, str | int | Collection[str]],
        *,
        source: bytes = b"",
    ) -> Mapping[str, str | int]:
        """Check a token that came from outside."""
        return self.tokens.verify(kind, token, expected, source=source)

    def is_overlay(self, address: str) -> bool:
        """Whether an address lies inside the mesh."""
        ip = ip_address(address.partition("%")[0])
        return any(
            ip.version == network.version and ip in network for network in self.mesh_networks
        )


@dataclass(frozen=True)
class AddressNodeContext(NodeContext):
    """See `tunmesh.interfaces.AddressContext`."""

    device: str

    def set_addresses(self, addresses: Iterable[Interface]) -> None:
        """Replace what this provider contributes."""
        self.host.set_addresses(self.name, tuple(addresses))


@dataclass(frozen=True)
class PolicyNodeContext(NodeContext):
    """See `tunmesh.interfaces.PolicyContext`."""

    mesh: Mesh

    def routes_changed(self) -> None:
        """The policy's routes are not what they were."""
        self.mesh.forwarding.invalidate()

    def set_attribute(self, value: bytes) -> None:
        """Publish an attribute in this node's record."""
        self.mesh.set_attribute(self.name, value)

    def attributes(self) -> Mapping[str, bytes]:
        """What other nodes publish under this plugin's name."""
        return self.mesh.attributes(self.name)

    def nodes(self) -> Mapping[str, tuple[IPv4Address | IPv6Address, ...]]:
        """The addresses of the other live nodes."""
        return self.mesh.nodes()

    def node_names(self) -> Mapping[str, str]:
        """The names of the other live nodes, by node id."""
        return self.mesh.node_names()

    def verdicts_changed(self) -> None:
        """What the policy says of flows is not what it was."""
        self.mesh.forget_flows()

    def addresses(self) -> tuple[Interface, ...]:
        """This node's own addresses."""
        return self.mesh.forwarding.addresses

    def set_device_routes(self, prefixes: Iterable[Network]) -> None:
        """What the host routes into the device for this policy."""
        self.mesh.policies.set_device_routes(self.name, prefixes)
        self.mesh.forwarding.invalidate()

    def write_packet(self, packet: Buffer) -> None:
        """Give this host an IP packet."""
        self.mesh.outside.write_packet(packet)

    def wake_at(self, deadline: float) -> None:
        """Have the policy told when a deadline has passed."""
        self.mesh.policies.wake_at(self.name, deadline)
