"""Builds and opens what the plugins offer, in order, and closes it in the reverse order."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tunmesh.contexts import (
    AddressNodeContext,
    Host,
    PolicyNodeContext,
    TransportNodeContext,
    TunNodeContext,
)
from tunmesh.errors import TunmeshError
from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces import Transport, Tun
from tunmesh.loader.manager import PluginHost
from tunmesh.loader.validation import Role

if TYPE_CHECKING:
    from tunmesh.addressing import OwnAddresses
    from tunmesh.config import Config
    from tunmesh.mesh import Mesh

log = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")


class NodeFailed(TunmeshError):
    """The node cannot go on."""


class Opening:
    """Opens the objects of the plugins.

    Args:
        host: What the plugins' contexts lead to.
        stack: Closes what was opened.
        plugins: The plugins, loaded.
        config: The configuration.
        node_id: This node's id.
        user: The uid and gid that the process turns into; None if it keeps its own.

    Attributes:
        objects: What was opened, by plugin and role.
    """

    def __init__(
        self,
        host: Host,
        stack: AsyncExitStack,
        plugins: PluginHost,
        config: Config,
        node_id: str,
        user: tuple[int, int] | None,
    ) -> None:
        self._host = host
        self._stack = stack
        self._plugins = plugins
        self._config = config
        self._node_id = node_id
        self._user = user
        self.objects: dict[tuple[str, Role], object] = {}

    async def tun(self) -> tuple[str, Tun]:
        """The device, and the name of its plugin."""
        name, registration = self._plugins.registrations("tun")[0]
        context = self._context(
            TunNodeContext,
            name,
            "tun",
            accept_subnets=self._config.routing.accept_subnets,
            user=self._user,
        )
        with self._blame(name):
            return name, await self._enter(name, "tun", registration.factory(context))

    async def address_providers(self, addresses: OwnAddresses, device: str) -> None:
        """The address providers."""
        for name, registration in self._plugins.registrations("address"):
            context = self._context(AddressNodeContext, name, "address", device=device)
            with self._blame(name):
                provider = registration.factory(context)
                if provider.configures_device:
                    addresses.configure(name)
                await self._enter(name, "address", provider)

    async def transports(self, mesh: Mesh, tokens: Tokens, mark: int) -> None:
        """The transports."""
        for name, registration in self._plugins.registrations("transport"):
            context = self._context(
                TransportNodeContext, name, "transport", inbound=mesh, tokens=tokens, mark=mark
            )
            with self._blame(name):
                transport: Transport = registration.factory(context)
                transport.name = name
                mesh.carriers.add(await self._enter(name, "transport", transport))

    async def policies(self, mesh: Mesh) -> None:
        """The routing policies."""
        for name, registration in self._plugins.registrations("policy"):
            context = self._context(PolicyNodeContext, name, "policy", mesh=mesh)
            with self._blame(name):
                policy = registration.factory(context)
                mesh.policies.add(name, policy)
                await self._enter(name, "policy", policy)

    def _context(self, kind: Callable[..., C], name: str, role: Role, **more: object) -> C:
        values: dict[str, Any] = more
        return kind(
            host=self._host,
            name=name,
            options=self._plugins.options(name, role),
            node_id=self._node_id,
            node_name=self._config.node.name,
            mesh_networks=self._config.mesh.networks,
            **values,
        )

    @contextmanager
    def _blame(self, name: str) -> Iterator[None]:
        """Make what a plugin's object raises while it is built and opened carry its name."""
        try:
            yield
        except TunmeshError as error:
            self._plugins.failed(name, error)
            raise NodeFailed(f"plugin {name}: {error}") from error
        except Exception as error:
            # Foreign code: whatever it raises is that plugin's failure.
            self._plugins.failed(name, error)
            log.debug("plugin failed plugin=%s", name, exc_info=True)
            raise NodeFailed(f"plugin {name}: {type(error).__name__}: {error}") from error

    async def _enter(self, name: str, role: Role, thing: AbstractAsyncContextManager[T]) -> T:
        """Open a plugin's object, and close it in the end."""
        opened = await thing.__aenter__()
        self.objects[name, role] = opened
        self._stack.push_async_exit(functools.partial(_close, name, thing))
        if opened is None:  # an easy slip, which would show much later
            raise TypeError("__aenter__ has to return the object itself, not None")
        return opened


async def _close(
    name: str,
    thing: AbstractAsyncContextManager[object],
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """Close a plugin's object; what it raises must not keep the others from being closed."""
    try:
        await thing.__aexit__(kind, error, trace)
    except Exception:
        # Foreign code.
        log.exception("plugin failed while it was closed plugin=%s", name)
