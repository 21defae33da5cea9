"""Loads the selected plugins, asks what they offer, and tells them what happens.

Per selected name there is exactly one outcome, so that one broken plugin hides no other. What is
not selected is never imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stevedore import DriverManager, ExtensionManager

from tunmesh import __version__, shipped
from tunmesh.config.problems import ConfigErrors, Problem, suggestion
from tunmesh.config.types import Config
from tunmesh.errors import (
    DuplicatePlugin,
    PluginApiError,
    PluginError,
    PluginHookError,
    PluginImportError,
    PluginNotFound,
    TunmeshError,
)
from tunmesh.interfaces.checks import Finding, HostView
from tunmesh.interfaces.registration import Registration
from tunmesh.loader.discovery import Found, discover
from tunmesh.loader.notifier import Notifier
from tunmesh.loader.options import OptionTables
from tunmesh.loader.report import PluginEntry, PluginErrors, one_line
from tunmesh.loader.validation import (
    ROLES,
    HookProblem,
    Role,
    check_hooks,
    check_registrations,
    register,
)
from tunmesh.plugin import GROUP

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)

#: Plugins that fill a role which no selected plugin fills, if they are installed.
FILLERS: dict[Role, str] = {"tun": "tun_linux", "address": "ifaddr"}


class PluginHost(Notifier):
    """The plugins of one node, or of one command.

    Args:
        config: Holds the plugins' tables.
        environ: For ``${NAME}`` in those tables.
        path: Directories in which to look for plugins, instead of ``sys.path``.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        path: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._config = config or Config()
        self._environ = environ
        self._tables = OptionTables(self._config, environ)
        self._path = path
        self._found: dict[str, Found] = {}
        self._entries: dict[str, PluginEntry] = {}
        self._order: list[str] = []  # of the selected plugins, fillers last
        self._hooks: dict[str, tuple[str, ...]] = {}
        self._registrations: dict[str, dict[Role, Registration[Any, Any]]] = {}

    @property
    def entries(self) -> list[PluginEntry]:
        """All plugins: the selected ones in their order, then the others by name."""
        others = sorted(self._entries.keys() - set(self._order))
        return [self._entries[name] for name in (*self._order, *others)]

    def entry(self, name: str) -> PluginEntry:
        """What is known of one plugin, which is installed or was selected."""
        return self._entries[name]

    def discover(self) -> None:
        """Find out what is installed; nothing is imported."""
        for name, several in discover(self._path).items():
            first = several[0]
            entry = PluginEntry(name, first.distribution, first.version)
            self._entries[name] = entry
            self._found[name] = first
            if len(several) > 1:
                entry.distribution = ", ".join(found.distribution for found in several)
                entry.version = ", ".join(found.version for found in several)
                text = " and ".join(f"{found.distribution} {found.version}" for found in several)
                entry.fail(DuplicatePlugin(f"{text} both offer it: uninstall one", name=name))
            elif not first.usable:
                text = (
                    f"written for {first.entry_point.group}, "
                    f"but tunmesh {__version__} has {GROUP}: install a matching version"
                )
                entry.fail(PluginApiError(text, name=name, distribution=first.distribution))

    def load(self, names: Iterable[str], *, explicit: bool, fill: bool = True) -> None:
        """Import, check and register plugins, and what fills the roles that they leave empty.

        Args:
            names: The plugins, in the order of preference.
            explicit: Whether somebody named them, so that each of them must be usable.
            fill: Whether to fill empty roles.

        Raises:
            PluginErrors: Explicit plugins, or fillers, that cannot be used. All others are usable
                nevertheless.
        """
        selected = [name for name in dict.fromkeys(names) if name not in self._order]
        self._select(selected, explicit=explicit)
        fillers = [
            name
            for role, name in FILLERS.items()
            if fill
            and name in self._found
            and name not in self._order
            and not self.registrations(role)
        ]
        self._select(fillers, explicit=False)
        needed = fillers if not explicit else [*selected, *fillers]
        failures = [self._entries[name].failure for name in needed]
        if errors := [failure for failure in failures if failure]:
            raise PluginErrors(errors)

    def _select(self, names: Sequence[str], *, explicit: bool) -> None:
        self._order += names
        plugins: dict[str, object] = {}
        for name in names:
            entry = self._entries.setdefault(name, PluginEntry(name, state="missing"))
            entry.enabled, entry.explicit = True, explicit
            if entry.failure is not None:
                continue
            if name not in self._found:
                if explicit:
                    text = f"is not installed{suggestion(name, self._found)}"
                    entry.fail(PluginNotFound(text, name=name))
                continue
            try:
                plugins[name] = self._import(self._found[name])
            except PluginImportError as error:
                entry.fail(error)
        # pluggy asks the plugin first that was registered last.
        for name, plugin in reversed(plugins.items()):
            entry = self._entries[name]
            try:
                self._register(name, plugin)
            except HookProblem as problem:
                entry.fail(
                    PluginHookError(str(problem), name=name, distribution=entry.distribution)
                )
            else:
                entry.state = "active"
                entry.roles = tuple(self._registrations[name])

    def _import(self, found: Found) -> object:
        # Discovery knows that there is exactly one entry point of the name. Given to stevedore
        # beforehand, it reads neither the disk again nor its own cache on disk, which may be old.
        ExtensionManager.ENTRY_POINT_CACHE[GROUP] = [found.entry_point]
        try:
            manager: DriverManager[Any] = DriverManager(GROUP, found.name)
        except (Exception, SystemExit) as error:  # whatever foreign code raises is its failure
            log.debug("plugin import failed plugin=%s", found.name, exc_info=True)
            text = (
                "import failed: it ended the program (sys.exit)"
                if isinstance(error, SystemExit)
                else f"import failed: {one_line(error)}"
            )
            raise PluginImportError(
                text, name=found.name, distribution=found.distribution
            ) from error
        finally:
            del ExtensionManager.ENTRY_POINT_CACHE[GROUP]
        return manager.driver

    def _register(self, name: str, plugin: object) -> None:
        hooks = check_hooks(self._manager, plugin)
        for warning in register(self._manager, plugin, name):
            log.warning("plugin uses what will go plugin=%s warning=%s", name, warning)
            self._entries[name].warnings.append(warning)
        try:
            self._registrations[name] = self._ask(name)
        except HookProblem:
            self._manager.unregister(plugin)
            raise
        self._hooks[name] = hooks

    def _ask(self, name: str) -> dict[Role, Registration[Any, Any]]:
        """What a plugin offers."""
        registrations: dict[Role, Registration[Any, Any]] = {}
        for role, (hook, _) in ROLES.items():
            for implementation in self.implementations(hook, name):
                try:
                    registration = check_registrations(role, implementation.function())
                except HookProblem:
                    raise
                except (Exception, SystemExit) as error:  # whatever foreign code raises
                    log.debug("plugin hook failed plugin=%s hook=%s", name, hook, exc_info=True)
                    raise HookProblem(f"{hook} raised {one_line(error)}") from error
                if registration is not None:
                    registrations[role] = registration
        return registrations

    def registrations(self, role: Role) -> list[tuple[str, Registration[Any, Any]]]:
        """What the usable plugins offer for a role, with their names, first named first."""
        return [
            (name, self._registrations[name][role])
            for name in self._order
            if role in self._registrations.get(name, {})
        ]

    def registrations_of(self, name: str) -> dict[Role, Registration[Any, Any]]:
        """What one plugin offers; nothing unless it is active."""
        return dict(self._registrations.get(name, {}))

    def modules(self) -> dict[str, str]:
        """The names of the usable plugins, by the modules that they begin in."""
        return {
            self._found[name].entry_point.module: name
            for name in reversed(self._order)
            if name in self._registrations
        }

    def hooks_of(self, name: str) -> tuple[str, ...]:
        """The hooks that one plugin implements; none unless it is active."""
        return self._hooks.get(name, ())

    def require(self, *roles: Role) -> None:
        """Make sure that somebody fills each role.

        Raises:
            ConfigErrors: Nobody does, and why not.
        """
        problems = []
        for role in roles:
            if not self.registrations(role):
                reasons = [
                    entry.reason
                    for entry in self.entries
                    if entry.enabled and entry.state != "active"
                    if shipped.ROLES.get(entry.name, role) == role
                ]
                why = f" ({'; '.join(reasons)})" if reasons else ""
                problems.append(
                    self._config.origin.problem(
                        "plugins.enabled", f"no plugin fills the role {role}{why}"
                    )
                )
        if problems:
            raise ConfigErrors(problems)

    def options(self, name: str, role: Role) -> Any:  # noqa: ANN401  # the plugin's own type
        """The options of an active plugin: its table of the configuration, converted.

        Raises:
            ConfigErrors: With everything that is wrong in the table.
        """
        options, problems = self._tables.convert(name, role, self._registrations[name])
        if problems:
            raise ConfigErrors(problems)
        return options

    def option_problems(self) -> list[Problem]:
        """Everything that is wrong in the tables of active plugins, and tables of no plugin.

        Tables of plugins that are not selected, or cannot be used, are not looked at.
        """
        return self.options_of(self._config)[1]

    def options_of(self, config: Config) -> tuple[dict[tuple[str, Role], Any], list[Problem]]:
        """The options of all active plugins in a configuration, and as of `option_problems`.

        Args:
            config: Maybe another than that with which the plugins were loaded.

        Returns:
            By plugin and role; and everything that is wrong.
        """
        tables = OptionTables(config, self._environ)
        problems = tables.unknown(self._entries.keys() | self._order)
        found: dict[tuple[str, Role], Any] = {}
        for name in self._order:
            registrations = self._registrations.get(name, {})
            for role in registrations:
                found[name, role], more = tables.convert(name, role, registrations)
                problems += more
        return found, list(dict.fromkeys(problems))  # roles may share an option

    def failed(self, name: str, error: BaseException) -> None:
        """Note that a plugin's object raised while it was opened or started."""
        entry = self._entries[name]
        text = str(error) if isinstance(error, TunmeshError) else one_line(error)
        failure = PluginError(text, name=name, distribution=entry.distribution)
        entry.fail(failure, "failed")

    def add_commands(
        self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]
    ) -> list[PluginError]:
        """Let the plugins add their commands; what goes wrong is returned."""
        errors: list[PluginError] = []
        for implementation in self.implementations("tunmesh_add_commands"):
            try:
                implementation.function(subparsers)
            except (Exception, SystemExit) as error:  # foreign code
                name = implementation.plugin_name
                text = f"tunmesh_add_commands raised {one_line(error)}"
                log.debug("plugin hook failed plugin=%s", name, exc_info=True)
                errors.append(PluginHookError(text, name=name))
        return errors

    def check_host(self, host: HostView) -> list[tuple[str, Finding]]:
        """What the plugins find wrong with the host, each with the plugin's name.

        Args:
            host: What they look at, without their options.
        """
        found: list[tuple[str, Finding]] = []
        for implementation in self.implementations("tunmesh_checks"):
            name = implementation.plugin_name
            try:
                role = next(iter(self._registrations[name]), None)
                view = replace(host, options=None if role is None else self.options(name, role))
                findings: Any = implementation.function(*(view for _ in implementation.argnames))
                found += [(name, _finding(value)) for value in findings]
            except ConfigErrors:
                continue  # told as a problem of the configuration
            except Exception as error:  # noqa: BLE001  # foreign code
                text = f"the check of plugin {name} failed: {one_line(error)}"
                found.append((name, Finding("plugin", "warning", text, "report it to its author")))
        return found


def _finding(value: object) -> Finding:
    if not isinstance(value, Finding):
        raise TypeError(f"{value!r} is no Finding")
    return value
