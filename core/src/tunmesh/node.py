"""One node: builds everything from the configuration, runs it in one task group, stops in order.

::

    start   key and secrets → device → addresses → mesh → transports → admin socket → readers
    stop    "node stopping" → goodbye to the peers → the same backwards
"""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel

from tunmesh import __version__, logs, statusdoc
from tunmesh.addressing import OwnAddresses
from tunmesh.admin.location import socket_path
from tunmesh.admin.server import serve
from tunmesh.config import Config, ConfigErrors, load_config, resolve_secrets
from tunmesh.contexts import (
    AddressNodeContext,
    PolicyNodeContext,
    TransportNodeContext,
    TunNodeContext,
)
from tunmesh.errors import ConfigError, EndpointError, TunError, TunmeshError
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces import DeviceConfig, Reactor, Transport, Tun
from tunmesh.interfaces.events import NodeInfo, PeerInfo
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.loader.manager import PluginHost
from tunmesh.loader.validation import Role
from tunmesh.membership.timing import DirectoryTiming
from tunmesh.mesh import Mesh, MeshSettings
from tunmesh.peering.path import Path as PeerPath
from tunmesh.peering.peer import Peer
from tunmesh.peering.timing import PathTiming
from tunmesh.privileges import (
    Account,
    acting_as,
    find_account,
    forbid_core_dumps,
    hand_over,
    import_early,
)
from tunmesh.privileges.threads import drop_everything
from tunmesh.reactor import reactor
from tunmesh.routing.prefixes import any_default
from tunmesh.session import suites
from tunmesh.session.timing import Timing

log = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")

#: The clock of everything goes on during suspend; sleeping does not, so it is looked at this often.
_LONGEST_SLEEP = 1.0
#: After something due has failed the next is done only this much later.
_TIMER_PAUSE = 0.01
#: A name in a URL is resolved within this time.
_RESOLVE_TIMEOUT = 10.0
#: Carried by the sockets of the transports where a default route may lead into the tunnel.
UNDERLAY_MARK = 0x746D
#: What switches forwarding on, by version of IP.
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
#: Goodbyes get this long to leave the host.
_GOODBYE = 0.05


def now() -> float:
    """Seconds on ``CLOCK_BOOTTIME``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NodeFailed(TunmeshError):
    """The node cannot go on."""


class Node:
    """A node that runs until it is told to stop.

    Args:
        config: The configuration.
        plugins: The plugins, loaded.
        secrets: The mesh secrets.
        account: The user that the process turns into once everything is open; None if it keeps
            its privileges.
    """

    def __init__(
        self,
        config: Config,
        plugins: PluginHost,
        secrets: list[bytes],
        account: Account | None = None,
    ) -> None:
        self._config = config
        self._plugins = plugins
        self._keyring = Keyring(secrets, config.mesh.name)
        self._account = account
        state_dir = Path(config.node.state_dir) if config.node.state_dir else None
        if account is not None and state_dir is not None:
            _hand_over(state_dir, account)
        with acting_as(account):  # what is made now is written later, too
            self._key = NodeKey.load_or_create(state_dir) if state_dir else NodeKey.generate()
            self._addresses = OwnAddresses(
                self._key.node_id, config.node.addresses, config.mesh.networks, state_dir
            )
        self._boot_id = os.urandom(8)
        self._mark = UNDERLAY_MARK if any_default(config.routing.accept_subnets) else 0
        self._underlay: tuple[Interface, ...] = ()
        self._refused: set[tuple[str, Network, str]] = set()
        self._applied: DeviceConfig | None = None
        self._started = now()
        self._failure = ""
        self.reactor: Reactor

    # --------------------------------------------------------------- life cycle

    async def run(self) -> None:
        """Run until `stop`.

        Raises:
            TunmeshError: The node could not start, or cannot go on.
        """
        self._token = anyio.lowlevel.current_token()
        self._wake = anyio.Event()
        self._next_wake = float("inf")
        self._apply_wanted = anyio.Event()
        self._stopped = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self.reactor = reactor(tasks)
                await self._run(tasks)
                tasks.cancel_scope.cancel()
        except* TunmeshError as group:
            raise _first(group) from group
        if self._failure:
            raise NodeFailed(self._failure)

    async def _run(self, tasks: anyio.abc.TaskGroup) -> None:
        async with AsyncExitStack() as stack:
            backend, self._tun = await self._open_tun(stack)
            self._mesh = self._make_mesh()
            await self._open_providers(stack)
            await self._look_around()
            await self._tun.apply(self._device_config())
            await self._open_transports(stack)
            await self._open_policies(stack)
            handlers = {"status": lambda _: self._status(backend), "stop": self._stop_command}
            path = socket_path(self._config.admin.socket, self._tun.name)
            listen = functools.partial(serve, owner=self._user, opened=self._give_up_privileges)
            await tasks.start(listen, path, handlers)
            self._announce()
            for name, group in self._config.bootstrap.items():
                draw = functools.partial(group.interval.draw, self._mesh.rng)
                self._mesh.joining.add_group(name, group.urls, group.retries, draw)
            self._mesh.start()
            self._device_watch = self.reactor.watch(self._tun.fileno(), self._read_device)
            stack.callback(self._device_watch.close)
            tasks.start_soon(self._timer)
            applying = anyio.CancelScope()
            stack.callback(applying.cancel)  # before the device is closed
            tasks.start_soon(self._apply, applying)
            info = self._info()
            for warning in self._warnings():
                log.warning("%s", warning)
            log.info("node up id=%s name=%s device=%s", info.id, info.name, info.device)
            self._plugins.notify_node_started(info)
            gc.collect()
            gc.freeze()  # what was built so far lives as long as the node
            await self._stopped.wait()
            log.info("node stops id=%s", info.id)
            self._plugins.notify_node_stopping(info)
            self._mesh.stop()
            await anyio.sleep(_GOODBYE)

    async def _give_up_privileges(self) -> None:
        if self._account is not None:
            await drop_everything(self._account)
            log.info("privileges given up user=%s", self._account.name)

    def stop(self) -> None:
        """Stop in order."""
        self._stopped.set()

    def _stop_command(self, _: dict[str, Any]) -> None:
        self.stop()

    def device_lost(self, reason: str) -> None:
        """The node cannot go on without its device."""
        if not self._failure:  # what comes after the first is of the same fall
            self._failure = f"device lost: {reason}"
        self._stopped.set()

    def _read_device(self) -> None:
        try:
            self._mesh.inside.read()
        except TunError as error:
            self._device_watch.close()  # it stays readable for ever
            self.device_lost(str(error))

    @property
    def _user(self) -> tuple[int, int] | None:
        """The uid and gid that the process turns into."""
        return None if self._account is None else (self._account.uid, self._account.gid)

    def _make_mesh(self) -> Mesh:
        config = self._config
        timing = config.timing
        aes = _hardware_aes()
        chosen = config.mesh.cipher
        settings = MeshSettings(
            networks=config.mesh.networks,
            accept_subnets=config.routing.accept_subnets,
            broadcast=config.routing.broadcast,
            broadcast_rate=config.routing.broadcast_rate,
            eager_peers=config.mesh.eager_peers,
            relay=config.node.relay,
            suites=tuple(suites.SUITES.values()) if chosen == "auto" else (suites.SUITES[chosen],),
            hardware_aes=aes,
            advertise=config.node.advertise,
            session=Timing(
                rekey_after=float(timing.rekey_after), reject_after=float(timing.reject_after)
            ),
            paths=PathTiming(
                path_probe=float(timing.path_probe),
                keepalive=float(timing.keepalive),
                standby_probe=float(timing.standby_probe),
            ),
            directory=DirectoryTiming(
                digest_min=float(timing.reregister_local),
                digest_max=2 * float(timing.reregister_local),
                stale_local=float(timing.stale_local),
                stale_mesh=float(timing.stale_mesh),
            ),
        )
        return Mesh(
            settings,
            self._key,
            self._keyring,
            self._tun,
            name=config.node.name,
            observer=self,
            clock=now,
            wall_ns=time.time_ns,
            rng=random.Random(os.urandom(16)),
            boot_id=self._boot_id,
            resolve=self._resolve,
            wake=self._wake_at,
        )

    # ------------------------------------------------------------------ plugins

    def _context(self, kind: Callable[..., C], name: str, role: Role, **more: object) -> C:
        values: dict[str, Any] = more
        return kind(
            host=self,
            name=name,
            options=self._plugins.options(name, role),
            node_id=self._key.node_id,
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

    async def _enter(
        self, stack: AsyncExitStack, name: str, thing: AbstractAsyncContextManager[T]
    ) -> T:
        """Open a plugin's object, and close it in the end."""
        opened = await thing.__aenter__()
        stack.push_async_exit(functools.partial(_close, name, thing))
        return opened

    async def _open_tun(self, stack: AsyncExitStack) -> tuple[str, Tun]:
        name, registration = self._plugins.registrations("tun")[0]
        context = self._context(
            TunNodeContext,
            name,
            "tun",
            accept_subnets=self._config.routing.accept_subnets,
            user=self._user,
        )
        with self._blame(name):
            return name, await self._enter(stack, name, registration.factory(context))

    async def _open_providers(self, stack: AsyncExitStack) -> None:
        for name, registration in self._plugins.registrations("address"):
            context = self._context(AddressNodeContext, name, "address", device=self._tun.name)
            with self._blame(name):
                provider = registration.factory(context)
                if provider.configures_device:
                    self._addresses.configure(name)
                await self._enter(stack, name, provider)

    async def _open_transports(self, stack: AsyncExitStack) -> None:
        tokens = Tokens(self._key.node_id, self._boot_id, self._keyring, wall=time.time, clock=now)
        for name, registration in self._plugins.registrations("transport"):
            context = self._context(
                TransportNodeContext,
                name,
                "transport",
                inbound=self._mesh,
                tokens=tokens,
                mark=self._mark,
            )
            with self._blame(name):
                transport: Transport = registration.factory(context)
                transport.name = name
                self._mesh.carriers.add(await self._enter(stack, name, transport))

    async def _open_policies(self, stack: AsyncExitStack) -> None:
        for name, registration in self._plugins.registrations("policy"):
            context = self._context(PolicyNodeContext, name, "policy", mesh=self._mesh)
            with self._blame(name):
                policy = registration.factory(context)
                self._mesh.policies.add(name, policy)
                await self._enter(stack, name, policy)

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
        if self._addresses.settle(self._mesh.directory.claims):
            self._addresses_changed()

    def _addresses_changed(self) -> None:
        if self._mesh.carriers.transports:  # else the start has not come that far
            self._announce()
            self._apply_wanted.set()

    def _announce(self) -> None:
        versions = {"tunmesh": __version__}
        for entry in self._plugins.entries:
            if entry.state == "active":
                versions[entry.name] = entry.version
        self._mesh.announce(
            addresses=self._addresses.all(),
            subnets=tuple((subnet.prefix, subnet.metric) for subnet in self._config.node.subnets),
            versions=versions,
        )

    def _device_config(self) -> DeviceConfig:
        forwarding = self._mesh.forwarding
        return DeviceConfig(
            addresses=self._addresses.for_device(),
            networks=self._config.mesh.networks,
            routes=(*forwarding.kernel_routes(), *self._mesh.policies.device_routes()),
            broadcasts=forwarding.broadcasts(),
            mark=self._mark,
            underlay=self._underlay if self._mark else (),
        )

    async def _look_around(self) -> None:
        """See what other networks this host is connected to."""
        self._underlay = await self._tun.underlay_addresses()
        networks = dict.fromkeys(address.network for address in self._underlay)
        self._mesh.forwarding.set_underlay(tuple(networks))

    def _report_refused(self) -> None:
        """Tell of announcements that are not accepted, each once as long as it lasts."""
        refused = {
            (node_id, prefix, reason)
            for node_id, prefixes in self._mesh.forwarding.refused.items()
            for prefix, reason in prefixes
        }
        for node_id, prefix, reason in sorted(refused - self._refused, key=str):
            log.warning("announcement refused id=%s prefix=%s reason=%s", node_id, prefix, reason)
        self._refused = refused

    def _warnings(self) -> list[str]:
        """What does not work as configured."""
        return [
            f"subnet {subnet.prefix} cannot be reached by others: this host does not forward "
            f"IPv{subnet.prefix.version}; run `sysctl -w {_FORWARDING[subnet.prefix.version]}=1`"
            for subnet in self._config.node.subnets
            if not self._tun.forwards(subnet.prefix.version)
        ]

    async def _apply(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self._keep_applied()

    async def _keep_applied(self) -> None:
        """Keep the host's configuration in step with the mesh."""
        applied: DeviceConfig | None = None
        while True:
            await self._apply_wanted.wait()
            self._apply_wanted = anyio.Event()
            try:
                await self._look_around()
            except TunmeshError as error:
                log.warning("addresses of this host unknown error=%s", error)
            wanted = self._device_config()
            self._report_refused()
            if wanted == applied:
                continue
            try:
                await self._tun.apply(wanted)
            except TunmeshError as error:
                log.warning("device configuration failed error=%s", error)
            except Exception:
                # Foreign code: what it fails on is asked for again after the next change.
                log.exception("device configuration failed")
            else:
                applied = wanted

    # -------------------------------------------------------------------- timer

    def _wake_at(self, deadline: float) -> None:
        if deadline < self._next_wake:
            self._wake.set()

    async def _timer(self) -> None:
        while True:
            try:
                self._mesh.handle_timer()
            except Exception:
                # Foreign code runs inside, as a transport's `send`: what else is due stays due.
                log.exception("timer failed")
                await anyio.sleep(_TIMER_PAUSE)
            self._wake = anyio.Event()
            self._next_wake = self._mesh.next_deadline()
            pause = min(self._next_wake - now(), _LONGEST_SLEEP)
            if pause > 0:
                with anyio.move_on_after(pause):
                    await self._wake.wait()
            else:
                await anyio.lowlevel.checkpoint()

    def _resolve(
        self, transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._tasks.start_soon(self._look_up, transport, url, found)

    async def _look_up(
        self, transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
    ) -> None:
        endpoints: tuple[str, ...] = ()
        try:
            with anyio.fail_after(_RESOLVE_TIMEOUT):
                endpoints = await transport.resolve(url)
        except (EndpointError, TimeoutError) as error:
            log.warning("bootstrap url failed url=%s error=%s", url, error)
        except Exception:
            # Foreign code: a URL that it fails on must not end the node.
            log.exception("plugin failed plugin=%s url=%s", transport.name, url)
        found(endpoints)

    # ----------------------------------------------------------------- observer

    def peer_up(self, peer: Peer) -> None:
        """A peer can be reached."""
        info = self._peer_info(peer)
        link = peer.paths.active.handle.endpoint if peer.paths.active else ""
        log.info("peer up peer=%s id=%s link=%s", logs.safe(info.name), info.id, link)
        self._plugins.notify_peer_up(info)

    def peer_down(self, peer: Peer, reason: str) -> None:
        """A peer can no longer be reached."""
        info = self._peer_info(peer)
        log.info("peer down peer=%s id=%s reason=%s", logs.safe(info.name), info.id, reason)
        self._plugins.notify_peer_down(info, reason)

    def path_changed(self, peer: Peer, path: PeerPath, reason: str) -> None:
        """Traffic to a peer takes another path."""
        log.info(
            "path changed peer=%s link=%s reason=%s",
            logs.safe(self._peer_info(peer).name),
            path.handle.endpoint,
            reason,
        )

    def routes_changed(self) -> None:
        """Other nodes, or what they announce, changed."""
        self._apply_wanted.set()

    def underlay_changed(self) -> None:
        """The addresses of this host outside the mesh changed."""
        self._apply_wanted.set()

    def event(self, name: str, **fields: object) -> None:
        """Anything else worth a line."""
        text = " ".join(f"{key}={logs.safe(value)}" for key, value in fields.items())
        log.warning("%s %s", name, text)

    def _peer_info(self, peer: Peer) -> PeerInfo:
        record = self._mesh.directory.records.get(peer.node_id)
        name = record.name if record else peer.node_id[:8]
        owned = self._mesh.directory.claims.owned(peer.node_id)
        return PeerInfo(peer.node_id, name, tuple(map(str, owned)))

    def _info(self) -> NodeInfo:
        addresses = tuple(map(str, self._addresses.all()))
        return NodeInfo(self._key.node_id, self._config.node.name, self._tun.name, addresses)

    def _status(self, backend: str) -> dict[str, Any]:
        moment = now()
        return statusdoc.build(
            self._mesh,
            self._tun,
            mesh_name=self._config.mesh.name,
            backend=backend,
            plugins=[entry.status_dict() for entry in self._plugins.entries if entry.enabled],
            uptime=moment - self._started,
            healthy=not self._failure,
            warnings=self._warnings(),
            now=moment,
        )


def _hardware_aes() -> bool:
    """Whether the processor has AES instructions, as the kernel tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(
        "aes" in line.split()
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
    )


def _hand_over(directory: Path, account: Account) -> None:
    try:
        hand_over(directory, account)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}", key="node.state_dir") from error


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


def _first(group: BaseExceptionGroup[TunmeshError]) -> TunmeshError:
    """One error of a group: the others are of the same fall."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TunmeshError)
    return error


async def _main(node: Node) -> None:
    async with anyio.create_task_group() as tasks:

        async def signals() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                async for _ in received:
                    node.stop()

        async def run() -> None:
            await node.run()
            tasks.cancel_scope.cancel()

        tasks.start_soon(signals)
        tasks.start_soon(run)


def run_command(args: argparse.Namespace) -> int:
    """``tunmesh run``: run one node in the foreground.

    Returns:
        The exit code after an orderly stop: 0.

    Raises:
        TunmeshError: The configuration cannot be used, the node could not start or go on.
    """
    config = load_config(
        args.config, sets=args.set, plugins=args.plugins, environ=os.environ, complete=True
    )
    logs.setup(config.log.level, config.log.format)
    secrets, warnings = resolve_secrets(config, os.environ)
    os.environ.pop("TUNMESH_SECRET", None)  # children have no use for it
    plugins = PluginHost(config)
    plugins.discover()
    plugins.load(config.plugins.enabled, explicit=config.explicit_plugins)
    if problems := plugins.option_problems():
        raise ConfigErrors(problems)
    plugins.require("tun", "transport")
    account = find_account(config.node.user) if config.node.user else None
    if account is not None:
        import_early()
    forbid_core_dumps()  # they would hold keys
    node = Node(config, plugins, secrets, account)
    for warning in warnings:
        log.warning("secret %s", warning)
    try:
        anyio.run(_main, node, backend_options={"use_uvloop": True})
    except* TunmeshError as group:
        raise _first(group) from None
    return 0
