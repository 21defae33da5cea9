"""Plugins in memory, and what they did: for tests of the node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_interface
from types import TracebackType
from typing import Self

import anyio
import msgspec

from tunmesh.interfaces import AddressContext, DeviceConfig, PolicyContext, TransportContext
from tunmesh.interfaces.events import NodeInfo, PeerInfo
from tunmesh.interfaces.transport import PathHandle
from tunmesh.interfaces.tun import Buffer, TunContext
from tunmesh.plugin import (
    AddressProvider,
    AddressRegistration,
    EndpointError,
    PolicyRegistration,
    RoutingPolicy,
    TransportError,
    TransportRegistration,
    TunError,
    TunRegistration,
    hookimpl,
)
from tunmesh.testing import Faults, MemoryNetwork, MemoryTransport, MemoryTun


class Journal:
    """What happened, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.network = MemoryNetwork(faults=Faults(delay=0.0))
        self.devices: dict[str, JournalTun] = {}
        self.contexts: dict[str, TransportContext] = {}
        self.providers: dict[str, JournalAddresses] = {}
        self._happened: anyio.Event | None = None

    def note(self, line: str = "") -> None:
        """Remember a line, and let `until` look again."""
        if line:
            self.lines.append(line)
        if self._happened is not None:
            self._happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something happened that makes the condition hold."""
        with anyio.fail_after(10):
            while not condition():
                self._happened = anyio.Event()
                await self._happened.wait()


#: Of the test that runs.
JOURNALS: list[Journal] = []


def journal() -> Journal:
    """The journal of the test that runs."""
    return JOURNALS[-1]


class Fails(msgspec.Struct, frozen=True):
    """Options of a plugin that can be told to fail: ``make``, ``open``, ``crash`` or ``close``."""

    fails: str = ""


class Parts:
    """What all objects here do when they are made, opened and closed."""

    def __init__(self, role: str, node: str, fails: str, error: type[Exception]) -> None:
        self._what = f"{node}: {role}"
        self._fails = fails
        self._error = error
        if fails == "make":
            raise ValueError("cannot be made")

    def opened(self) -> None:
        if self._fails == "open":
            raise self._error("no such thing here")
        if self._fails == "crash":
            raise KeyError("a defect")
        journal().note(f"{self._what} opened")

    def closed(self) -> None:
        journal().note(f"{self._what} closed")
        if self._fails == "close":
            raise ValueError("cannot be closed")


class JournalTun(MemoryTun):
    """A device that tells what is done to it."""

    def __init__(self, context: TunContext) -> None:
        super().__init__(name=f"m-{context.node_name}")
        self.context = context
        self._parts = Parts("tun", context.node_name, context.options.fails, TunError)

    async def __aenter__(self) -> Self:
        self._parts.opened()
        journal().devices[self.context.node_name] = self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        self._parts.closed()

    def write_batch(self, frames: Sequence[Buffer]) -> int:
        refused = super().write_batch(frames)
        journal().note()
        return refused

    async def apply(self, config: DeviceConfig) -> None:
        fails = self.context.options.fails
        if fails.startswith("apply") and self.applied:
            journal().note("apply failed")
            raise TunError("the host refused it") if fails == "apply" else KeyError("a defect")
        await super().apply(config)
        journal().note(f"{self.context.node_name}: applied")


class TransportOptions(Fails, frozen=True):
    """Options of the transport."""

    host: str = ""


class JournalTransport(MemoryTransport):
    """A transport that lets the network deliver as soon as something was sent."""

    def __init__(self, context: TransportContext) -> None:
        host = context.options.host or context.node_name
        super().__init__(context, journal().network, f"memory://{host}:4567")
        self._context = context
        self._parts = Parts("transport", context.node_name, context.options.fails, TransportError)

    async def __aenter__(self) -> Self:
        self._parts.opened()
        journal().contexts[self._context.node_name] = self._context
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        self._parts.closed()

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        sent = super().send(handle, buffers, segment_size)
        self._context.start_soon(self._carry)
        return sent

    async def _carry(self) -> None:
        network = journal().network
        network.run_until(network.now())

    async def resolve(self, url: str) -> tuple[str, ...]:
        if "nowhere" in url:
            raise EndpointError(f"{url} leads nowhere")
        if "defect" in url:
            raise KeyError(url)
        return (url,)


class AddressOptions(Fails, frozen=True):
    """Options of the address provider."""

    address: str = ""
    configures: bool = True


class JournalAddresses(AddressProvider):
    """Contributes one address."""

    def __init__(self, context: AddressContext) -> None:
        self.context = context
        self.configures_device = context.options.configures
        self._parts = Parts("address", context.node_name, context.options.fails, OSError)

    async def __aenter__(self) -> Self:
        self._parts.opened()
        journal().providers[self.context.node_name] = self
        address = self.context.options.address
        self.context.set_addresses([ip_interface(address)] if address else [])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.closed()


class JournalPolicy(RoutingPolicy):
    """Contributes nothing."""

    def __init__(self, context: PolicyContext) -> None:
        self._parts = Parts("policy", context.node_name, context.options.fails, OSError)

    async def __aenter__(self) -> Self:
        self._parts.opened()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.closed()


class TunPlugin:
    """Offers the device."""

    @hookimpl
    def tunmesh_tun_backends(self) -> Iterable[TunRegistration]:
        return [TunRegistration("in memory", JournalTun, Fails)]


class TransportPlugin:
    """Offers the transport."""

    @hookimpl
    def tunmesh_transports(self) -> Iterable[TransportRegistration]:
        return [TransportRegistration("in memory", JournalTransport, TransportOptions)]


class AddressPlugin:
    """Offers the address provider."""

    @hookimpl
    def tunmesh_address_providers(self) -> Iterable[AddressRegistration]:
        return [AddressRegistration("one address", JournalAddresses, AddressOptions)]


class PolicyPlugin:
    """Offers the policy."""

    @hookimpl
    def tunmesh_routing_policies(self) -> Iterable[PolicyRegistration]:
        return [PolicyRegistration("nothing", JournalPolicy, Fails)]


class Watcher:
    """Is told everything."""

    @hookimpl
    def tunmesh_node_started(self, node: NodeInfo) -> None:
        journal().note(f"{node.name}: started on {node.device} with {','.join(node.addresses)}")

    @hookimpl
    def tunmesh_node_stopping(self, node: NodeInfo) -> None:
        journal().note(f"{node.name}: stopping")

    @hookimpl
    def tunmesh_peer_up(self, peer: PeerInfo) -> None:
        journal().note(f"{peer.name} up")

    @hookimpl
    def tunmesh_peer_down(self, peer: PeerInfo, reason: str) -> None:
        journal().note(f"{peer.name} down: {reason}")


tun, transport, address = TunPlugin(), TransportPlugin(), AddressPlugin()
policy, watcher = PolicyPlugin(), Watcher()
