"""Reads the configuration of a running node again: what has changed, and what can follow at once.

A file with a problem changes nothing. Reading happens in a worker thread, so that packets do not
wait for it, with the privileges that the process has by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread
import msgspec

from tunmesh.config import Config, Problem
from tunmesh.config.plan import Change, compare, compare_configs
from tunmesh.config.problems import join_key
from tunmesh.config.scalars import is_auto
from tunmesh.errors import ConfigError, TunmeshError
from tunmesh.identity.secrets import Keyring
from tunmesh.interfaces import SupportsReload
from tunmesh.routing.prefixes import any_default

if TYPE_CHECKING:
    from tunmesh.loader.manager import PluginHost
    from tunmesh.loader.validation import Role

    Options = Mapping[tuple[str, Role], Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where the configuration comes from, as at the start.

    Attributes:
        read: Reads and checks it; goes on with defaults where something is wrong.
        secrets: The mesh secrets of a configuration, and warnings.
    """

    read: Callable[[], tuple[Config, list[Problem]]]
    secrets: Callable[[Config], tuple[list[bytes], list[str]]]


class Follower(Protocol):
    """What follows a configuration: the node."""

    def follow(self, config: Config) -> None:
        """Let everything of the core that can follow at once do so.

        Raises:
            TunmeshError: That is not possible; the node is to follow the former one again.
        """

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept these secrets."""


@dataclass
class Plan:
    """What a reload did, or why it did nothing.

    Attributes:
        changes: The keys that differ from what is in force.
        problems: What is wrong with the configuration: then nothing was done.
        warnings: What else there is to know.
    """

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """What was read. Without secrets, those in force stay."""

    config: Config
    options: Options
    secrets: list[bytes] | None


class Reloading:
    """Reloads the configuration of one node, one at a time.

    Args:
        source: Where it comes from; None for a node whose configuration is in no file.
        config: What is in force.
        plugins: The plugins, active.
        objects: What they opened, by plugin and role.
        keyring: The secrets in force.
        node: What follows.
        unprivileged: Whether the process has given up the privileges that it started with.
    """

    def __init__(
        self,
        source: Source | None,
        config: Config,
        plugins: PluginHost,
        objects: Mapping[tuple[str, Role], object],
        keyring: Keyring,
        node: Follower,
        *,
        unprivileged: bool,
    ) -> None:
        self._source = source
        self._config = config
        self._plugins = plugins
        self._objects = objects
        self._options = dict(plugins.options_of(config)[0])
        self._keyring = keyring
        self._node = node
        self._unprivileged = unprivileged
        self._lock = anyio.Lock()

    async def reload(self) -> Plan:
        """Read the configuration again, apply what can be, and tell in the log."""
        async with self._lock:
            plan = Plan()
            if self._source is None:
                plan.problems.append("this node was not started from a configuration file")
            else:
                found = await anyio.to_thread.run_sync(self._read, self._source, plan)
                if found is not None and not plan.problems:
                    self._apply(found, plan)
        _tell(plan)
        return plan

    def _read(self, source: Source, plan: Plan) -> _Found | None:
        """Read everything, in a worker thread."""
        try:
            config, problems = source.read()
        except ConfigError as error:  # it cannot be read at all
            plan.problems += str(error).splitlines()
            return None
        options, more = self._plugins.options_of(config)
        plan.problems += map(str, (*problems, *more))
        secrets = None
        if not any(problem.key.startswith("mesh.secret") for problem in problems):
            try:
                secrets, warnings = source.secrets(config)
                plan.warnings += warnings
            except ConfigError as error:
                if self._unprivileged and isinstance(error.__cause__, PermissionError):
                    plan.warnings.append(
                        f"{error}: the node has given up the privilege to read it; "
                        "the secrets in force stay"
                    )
                else:
                    plan.problems.append(str(error))
        return _Found(config, options, secrets)

    def _apply(self, found: _Found, plan: Plan) -> None:
        """Find out what differs, and let it follow."""
        old = self._config
        config, changes = compare_configs(old, found.config, _held(old, found.config))
        if config != old:
            try:
                self._node.follow(config)
            except TunmeshError as error:
                self._node.follow(old)
                plan.problems.append(str(error))
                return
        self._config = config
        plan.changes += changes
        self._follow_secrets(found, plan)
        for (name, role), options in found.options.items():
            self._follow_options(name, role, options, plan)
        plan.changes = list(dict.fromkeys(plan.changes))  # roles may share an option

    def _follow_secrets(self, found: _Found, plan: Plan) -> None:
        if found.secrets is None:
            return
        keyring = Keyring(found.secrets, self._config.mesh.name)
        old, new = (
            ", ".join(keys.psk_id.hex() for keys in ring.all) for ring in (self._keyring, keyring)
        )
        if old != new:
            self._keyring = keyring
            self._node.set_keyring(keyring)
            plan.changes.append(Change("mesh secrets, by fingerprint", old, new, "live"))

    def _follow_options(self, name: str, role: Role, new: Any, plan: Plan) -> None:  # noqa: ANN401
        """Let an object of a plugin follow, if it can."""
        target, old = self._objects.get((name, role)), self._options[name, role]
        follows = isinstance(target, SupportsReload)
        key = join_key("plugins", name)
        options, changes = compare(old, new, key, lambda _: not follows)
        plan.changes += changes
        if isinstance(target, SupportsReload) and options != old:
            try:
                target.reload(options)
            except Exception as error:
                # Foreign code: the node and the other plugins go on.
                log.exception("plugin failed to follow its options plugin=%s", name)
                plan.warnings.append(f"{key}: not applied: {type(error).__name__}: {error}")
                return
        self._options[name, role] = options


def _held(old: Config, new: Config) -> Callable[[str], bool]:
    """Which keys take a restart for what they are changed to, though most changes of them do not.

    Addresses that the node finds by itself belong to its start; so do the marks of the transports'
    sockets, without which a default route would lead them into the tunnel.
    """
    held = set()
    if any(is_auto(text) for text in (*old.node.addresses, *new.node.addresses)):
        held.add("node.addresses")
    subnets = new.routing.accept_subnets
    if any_default(subnets) and not any_default(old.routing.accept_subnets):
        held.add("routing.accept_subnets")
    return held.__contains__


def _tell(plan: Plan) -> None:
    """Log what a reload did."""
    for warning in plan.warnings:
        log.warning("reload warning text=%s", warning)
    if plan.problems:
        log.error("reload refused problems=%s", "; ".join(plan.problems))
        return
    for change in plan.changes:
        log.info(
            "configuration changed key=%s old=%s new=%s applies=%s",
            change.key,
            change.old,
            change.new,
            change.applies,
        )
    waiting = sum(change.applies == "restart" for change in plan.changes)
    log.info("reloaded changes=%s after_restart=%s", len(plan.changes), waiting)


def document(plan: Plan) -> dict[str, Any]:
    """The answer to ``tunmesh reload``, made of builtins."""
    answer: dict[str, Any] = msgspec.to_builtins(plan)
    return answer
