"""One node: builds everything from the configuration, runs it in one task group, stops in order.

::

    start   key and secrets → device → addresses → mesh → transports → admin socket → readers
    stop    "node stopping" → goodbye to the peers → the same backwards
"""

from __future__ import annotations

import gc
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel

from tunmesh import __version__, logs
from tunmesh.addressing import OwnAddresses
from tunmesh.admin.location import socket_path
from tunmesh.admin.server import Handler, serve
from tunmesh.config import Config
from tunmesh.culprits import Culprits
from tunmesh.errors import ConfigError, TunError, TunmeshError
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces import Transport
from tunmesh.interfaces.events import NodeInfo
from tunmesh.interfaces.tun import Interface
from tunmesh.loader.manager import PluginHost
from tunmesh.mesh import Mesh
from tunmesh.node.announcer import Announcer
from tunmesh.node.capture import CaptureStream
from tunmesh.node.hostconfig import HostConfig
from tunmesh.node.lookup import look_up
from tunmesh.node.opening import NodeFailed, Opening
from tunmesh.node.reloading import Plan, Reloading, Source, document
from tunmesh.node.reporting import Reporter
from tunmesh.node.service import ServiceManager
from tunmesh.node.settings import mesh_settings
from tunmesh.node.stalls import StallWatch
from tunmesh.node.timer import NodeTimer
from tunmesh.privileges import (
    Account,
    acting_as,
    hand_over,
)
from tunmesh.privileges.threads import drop_everything
from tunmesh.reactor import NodeReactor, reactor
from tunmesh.routing.prefixes import any_default

log = logging.getLogger(__name__)

_TOO_EARLY = "the node has not started yet"
#: Carried by the sockets of the transports where a default route may lead into the tunnel.
UNDERLAY_MARK = 0x746D
#: Goodbyes get this long to leave the host.
_GOODBYE = 0.05


def now() -> float:
    """Seconds on ``CLOCK_BOOTTIME``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Node(Announcer):
    """A node that runs until it is told to stop.

    Args:
        config: The configuration.
        plugins: The plugins, loaded.
        secrets: The mesh secrets.
        account: The user that the process turns into once everything is open; None if it keeps
            its privileges.
        service: Who is told how it is; nobody by default.
        source: Where the configuration is read again; nowhere by default.
    """

    def __init__(
        self,
        config: Config,
        plugins: PluginHost,
        secrets: list[bytes],
        account: Account | None = None,
        service: ServiceManager | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(plugins)
        self._service = service or ServiceManager({})
        self._culprits = Culprits(plugins.modules())
        self._config = config
        self._keyring = Keyring(secrets, config.mesh.name)
        self._account = account
        self._source = source
        self._reloading: Reloading | None = None
        state_dir = Path(config.node.state_dir) if config.node.state_dir else None
        if account is not None and state_dir is not None:
            _hand_over(state_dir, account)
        with acting_as(account):  # what is made now is written later, too
            self._key = NodeKey.load_or_create(state_dir) if state_dir else NodeKey.generate()
            self._addresses = OwnAddresses(
                self._key.node_id, config.node.addresses, config.mesh.networks, state_dir
            )
        self._boot_id = os.urandom(8)
        self._tokens = Tokens(
            self._key.node_id, self._boot_id, self._keyring, wall=time.time, clock=now
        )
        self._mark = UNDERLAY_MARK if any_default(config.routing.accept_subnets) else 0
        self._failure = ""
        self.reactor: NodeReactor

    # --------------------------------------------------------------- life cycle

    async def run(self) -> None:
        """Run until `stop`.

        Raises:
            TunmeshError: The node could not start, or cannot go on.
        """
        self._token = anyio.lowlevel.current_token()
        self._timer = NodeTimer(now, self._culprits)
        self._stopped = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self.reactor = reactor(tasks, self._culprits)
                await self._run(tasks)
                tasks.cancel_scope.cancel()
        except* TunmeshError as group:
            raise first_error(group) from group
        if self._failure:
            raise NodeFailed(self._failure)

    async def _run(self, tasks: anyio.abc.TaskGroup) -> None:
        async with AsyncExitStack() as stack:
            opening = Opening(
                self, stack, self._plugins, self._config, self._key.node_id, self._user
            )
            backend, self._tun = await opening.tun()
            self.mesh = self._make_mesh()
            self._host = HostConfig(self._config, self._tun, self.mesh, self._addresses, self._mark)
            await opening.address_providers(self._addresses, self._tun.name)
            await self._host.open()
            await opening.transports(self.mesh, self._tokens, self._mark)
            await opening.policies(self.mesh)
            self._reporter = reporter = Reporter(
                self.mesh,
                self._tun,
                backend,
                config=lambda: self._config,
                plugins=self._plugins,
                warnings=self._host.warnings,
                failure=lambda: self._failure,
                lag=self._timer.lag,
                clock=now,
                wall=time.time,
            )
            handlers: dict[str, Handler] = {
                "status": lambda _: reporter.status(),
                "stop": self._stop_command,
                "reload": self._reload_command,
                "explain": reporter.explain,
                "capture": partial(CaptureStream, self.mesh),
            }
            # Closed first: who asks while the node stops would see half of it.
            stack.callback(await reporter.open_web(tasks))
            path = socket_path(self._config.admin.socket, self._tun.name)
            listen = partial(serve, owner=self._user, opened=self._give_up_privileges)
            await tasks.start(listen, path, handlers)
            self._announce()
            self.mesh.start()
            self._join()
            self._device_watch = self.reactor.watch(self._tun.fileno(), self._read_device)
            stack.callback(self._device_watch.close)
            beat = partial(
                self._service.beat, overdue=self.reactor.overdue, status=reporter.summary
            )
            tasks.start_soon(
                self._timer.run,
                self.mesh.handle_timer,
                self.mesh.next_deadline,
                lambda: beat(now()),
            )
            stalls = stack.enter_context(StallWatch(self._culprits))
            tasks.start_soon(stalls.beat)
            applying = anyio.CancelScope()
            stack.callback(applying.cancel)  # before the device is closed
            tasks.start_soon(self._host.keep, applying)
            self._reloading = Reloading(
                self._source,
                self._config,
                self._plugins,
                opening.objects,
                self._keyring,
                self,
                unprivileged=self._account is not None,
            )
            info = self._info()
            for warning in self._host.warnings():
                log.warning("%s", warning)
            log.info("node up id=%s name=%s device=%s", info.id, info.name, info.device)
            self._plugins.notify_node_started(info)
            gc.collect()
            gc.freeze()  # what was built so far lives as long as the node
            self._service.ready(now(), reporter.summary())
            self._timer.wake()  # beats are due from now on
            await self._stopped.wait()
            self._service.stopping()
            log.info("node stops id=%s", info.id)
            self._plugins.notify_node_stopping(info)
            self._say_goodbye()
            await anyio.sleep(_GOODBYE)

    async def _give_up_privileges(self) -> None:
        if self._account is not None:
            await drop_everything(self._account)
            log.info("privileges given up user=%s", self._account.name)

    def stop(self) -> None:
        """Stop in order."""
        self._stopped.set()

    def _say_goodbye(self) -> None:
        try:
            self.mesh.stop()
        except Exception as error:
            # A transport's `send`: the others find out by themselves, and what is open is closed.
            log.exception("goodbye failed plugin=%s", self._culprits.of_error(error).plugin)

    def _stop_command(self, _: dict[str, Any]) -> None:
        self.stop()

    # ------------------------------------------------------------ configuration

    async def reload(self) -> Plan:
        """Read the configuration again, and follow what can be followed at once."""
        if self._reloading is None:
            log.error("reload refused problems=%s", _TOO_EARLY)
            return Plan(problems=[_TOO_EARLY])
        self._service.reloading()
        plan = await self._reloading.reload()
        self._service.ready(now(), self._reporter.summary())
        return plan

    async def _reload_command(self, _: dict[str, Any]) -> dict[str, Any]:
        return document(await self.reload())

    def follow(self, config: Config) -> None:
        """Follow another configuration, as far as that is possible without a restart.

        Raises:
            TunmeshError: Others would not accept what this node would say of itself.
        """
        old, self._config = self._config, config
        self._addresses.set_static(config.node.addresses)
        self.mesh.reconfigure(mesh_settings(config))
        self._announce()
        self._join()
        self._host.config = config
        self._host.changed()
        if config.log != old.log:
            logs.setup(config.log.level, config.log.format)

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept these secrets; sessions go on until they are renewed."""
        self._keyring = keyring
        self.mesh.set_keyring(keyring)
        self._tokens.set_keyring(keyring)

    def _join(self) -> None:
        """Follow the bootstrap groups of the configuration."""
        self.mesh.joining.set_groups(
            {
                name: (group.urls, group.retries, partial(group.interval.draw, self.mesh.rng))
                for name, group in self._config.bootstrap.items()
            }
        )

    def device_lost(self, reason: str) -> None:
        """The node cannot go on without its device."""
        if not self._failure:  # what comes after the first is of the same fall
            self._failure = f"device lost: {reason}"
        self._stopped.set()

    def _read_device(self) -> None:
        try:
            self.mesh.inside.read()
        except TunError as error:
            self._device_watch.close()  # it stays readable for ever
            self.device_lost(str(error))

    @property
    def _user(self) -> tuple[int, int] | None:
        """The uid and gid that the process turns into."""
        return None if self._account is None else (self._account.uid, self._account.gid)

    def _make_mesh(self) -> Mesh:
        return Mesh(
            mesh_settings(self._config),
            self._key,
            self._keyring,
            self._tun,
            name=self._config.node.name,
            observer=self,
            clock=now,
            wall_ns=time.time_ns,
            rng=random.Random(os.urandom(16)),
            boot_id=self._boot_id,
            resolve=self._resolve,
            wake=self._timer.wake_at,
        )

    # ------------------------------------------- for the plugins: `contexts.Host`

    def spawn(
        self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        """Run a plugin's task; an exception ends only this task."""
        self._tasks.start_soon(self._contained, name, function, args)

    async def _contained(
        self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        try:
            await function(*args)
        except Exception:
            # The task-group boundary: a plugin's failure must not end the node.
            log.exception("plugin task failed plugin=%s", name)

    def call_soon_threadsafe(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Run a function on the event loop, from any thread."""
        anyio.from_thread.run_sync(function, *args, token=self._token)

    # ---------------------------------------------------------------- addresses

    def now(self) -> float:
        """The node's clock."""
        return now()

    def set_addresses(self, provider: str, addresses: tuple[Interface, ...]) -> None:
        """What an address provider contributes."""
        self._addresses.set(provider, addresses)
        self._addresses_changed()

    def claims_changed(self) -> None:
        """Who has which address changed, or is in doubt."""
        if self._addresses.settle(self.mesh.directory.claims):
            self._addresses_changed()

    def _addresses_changed(self) -> None:
        if self.mesh.carriers.transports:  # else the start has not come that far
            self._announce()
            self._host.changed()

    def _announce(self) -> None:
        versions = {"tunmesh": __version__}
        for entry in self._plugins.entries:
            if entry.state == "active":
                versions[entry.name] = entry.version
        self.mesh.announce(
            addresses=self._addresses.all(),
            subnets=tuple((subnet.prefix, subnet.metric) for subnet in self._config.node.subnets),
            versions=versions,
        )

    def _resolve(
        self, transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._tasks.start_soon(look_up, self._culprits, transport, url, found)

    # ----------------------------------------------------------------- observer

    def routes_changed(self) -> None:
        """Other nodes, or what they announce, changed."""
        self._host.changed()

    def underlay_changed(self) -> None:
        """The addresses of this host outside the mesh changed."""
        self._host.changed()

    def _info(self) -> NodeInfo:
        addresses = tuple(map(str, self._addresses.all()))
        return NodeInfo(self._key.node_id, self._config.node.name, self._tun.name, addresses)


def _hand_over(directory: Path, account: Account) -> None:
    try:
        hand_over(directory, account)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}", key="node.state_dir") from error


def first_error(group: BaseExceptionGroup[TunmeshError]) -> TunmeshError:
    """One error of a group: the others are of the same fall."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TunmeshError)
    return error
