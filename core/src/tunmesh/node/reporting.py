"""What a running node tells of itself: the status document, its health, and both over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import anyio

from tunmesh import statusdoc
from tunmesh.node.explain import explain
from tunmesh.node.health import Check, health, registered

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from tunmesh.admin.http import HttpServer
    from tunmesh.config import Config
    from tunmesh.interfaces import Tun
    from tunmesh.loader.manager import PluginHost
    from tunmesh.mesh import Mesh
    from tunmesh.node.lag import Lag

log = logging.getLogger(__name__)


class Reporter:
    """Answers who asks how the node is.

    Args:
        mesh: The mesh.
        tun: The device.
        backend: The plugin that the device is of.
        config: The configuration in force.
        plugins: All plugins.
        warnings: What does not work as configured.
        failure: Why the node is about to end; empty if it is not.
        lag: How late the node was of late.
        clock: The time; the node starts now.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        mesh: Mesh,
        tun: Tun,
        backend: str,
        *,
        config: Callable[[], Config],
        plugins: PluginHost,
        warnings: Callable[[], Iterable[str]],
        failure: Callable[[], str],
        lag: Lag,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._mesh = mesh
        self._tun = tun
        self._backend = backend
        self._config = config
        self._plugins = plugins
        self._warnings = warnings
        self._failure = failure
        self._lag = lag
        self._clock = clock
        self._started = clock()
        self._started_at = wall()

    def status(self) -> dict[str, Any]:
        """The status document."""
        now = self._clock()
        return statusdoc.build(
            self._mesh,
            self._tun,
            mesh_name=self._config().mesh.name,
            backend=self._backend,
            plugins=[entry.status_dict() for entry in self._plugins.entries if entry.enabled],
            uptime=now - self._started,
            healthy=all(check.ok for check in self.health().values()),
            lag=self._lag.longest(now),
            warnings=self._warnings(),
            now=now,
        )

    def summary(self) -> str:
        """The status in one line."""
        up = sum(peer.up for peer in self._mesh.peers.values())
        return f"device {self._tun.name}, {up} peers up"

    def health(self) -> dict[str, Check]:
        """The checks of its health, by name."""
        now = self._clock()
        grace = self._config().admin.startup_grace.low
        return health(
            self._mesh,
            failure=self._failure(),
            lag=self._lag.longest(now),
            grace=now < self._started + grace,
        )

    async def explain(self, request: dict[str, Any]) -> dict[str, Any]:
        """What would become of a packet."""
        source, destination = (str(request.get(key, "")) for key in ("source", "destination"))
        return await explain(self._mesh, self._tun, source, destination, self._clock())

    async def open_web(self, tasks: TaskGroup) -> Callable[[], None]:
        """Open the admin listener, if there is to be one; returns what closes it.

        Raises:
            AdminError: It cannot be opened.
        """
        scope = anyio.CancelScope()
        options = self._config().admin
        if options.listen:
            from tunmesh.admin import http  # noqa: PLC0415  # slow, and not always needed
            from tunmesh.node.web import web_server  # noqa: PLC0415

            listener = await http.listen(options.listen)
            server = web_server(
                options,
                self.status,
                self.health,
                lambda: registered(self._mesh),
                self._started_at,
            )
            tasks.start_soon(_serve, scope, server, listener)
            log.info("admin listens address=%s", options.listen)
        return scope.cancel


async def _serve(
    scope: anyio.CancelScope,
    server: HttpServer,
    listener: Any,  # noqa: ANN401  # what `http.listen` returns
) -> None:
    with scope:
        await server.serve(listener)
