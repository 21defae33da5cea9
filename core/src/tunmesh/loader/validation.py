"""Whether a plugin keeps to the hook specifications, and what it offers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec
import pluggy

from tunmesh import hookspecs
from tunmesh.config.problems import suggestion
from tunmesh.config.schema import schema
from tunmesh.interfaces.registration import (
    AddressRegistration,
    PolicyRegistration,
    Registration,
    TransportRegistration,
    TunRegistration,
)
from tunmesh.loader.report import one_line

Role: TypeAlias = Literal["transport", "tun", "policy", "address"]

#: Of each role, the hook that offers it, and the type of what the hook returns.
ROLES: dict[Role, tuple[str, type[Registration[Any, Any]]]] = {
    "transport": ("tunmesh_transports", TransportRegistration),
    "tun": ("tunmesh_tun_backends", TunRegistration),
    "policy": ("tunmesh_routing_policies", PolicyRegistration),
    "address": ("tunmesh_address_providers", AddressRegistration),
}

#: The names of all hooks, in the order of their specifications.
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("tunmesh_"))


class HookProblem(Exception):
    """What is wrong with a hook, in one line."""


def check_hooks(manager: pluggy.PluginManager, plugin: object) -> tuple[str, ...]:
    """The hooks that a plugin implements.

    Raises:
        HookProblem: One of them does not fit. Arguments are left to `pluggy`.
    """
    found = []
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in HOOKS and inspect.isfunction(getattr(plugin, name)):
                raise HookProblem(f"{name} is not marked with @hookimpl")
            continue
        hook = options["specname"] or name
        if hook not in HOOKS:
            raise HookProblem(f"unknown hook {hook}{suggestion(hook, HOOKS)}")
        function = getattr(plugin, name)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise HookProblem(
                f"{hook} is async: hooks are ordinary functions, "
                "asynchronous work belongs into the object that the factory builds"
            )
        if options["wrapper"] or options["hookwrapper"]:
            raise HookProblem(f"{hook} is a wrapper, which tunmesh does not support")
        found.append(hook)
    if not found:
        raise HookProblem("it implements no hook")
    return tuple(hook for hook in HOOKS if hook in found)


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> list[str]:
    """Register a plugin whose hooks were checked.

    Returns:
        What it uses that a later version will not have: hooks, and arguments of hooks, that their
        specification marks with ``warn_on_impl`` or ``warn_on_impl_args``. One line each.

    Raises:
        HookProblem: Its hooks take arguments that there are none of, or it is registered already.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # pluggy's; they name a line of the plugin, but not it
        try:
            manager.register(plugin, name)
        except pluggy.PluginValidationError as error:  # wrong arguments; several lines
            lines = str(error).splitlines()
            raise HookProblem(f"{lines[0]}: {lines[-1]}") from error
        except ValueError as error:
            raise HookProblem("another entry point leads to the same object") from error
    return [str(warning.message) for warning in caught]


def check_registrations(role: Role, returned: object) -> Registration[Any, Any] | None:
    """The registration among what a registration hook returned; None if it offers nothing.

    Raises:
        HookProblem: It is something else.
    """
    hook, kind = ROLES[role]
    expected = f"{hook} must return an iterable of {kind.__name__}"
    if not isinstance(returned, Iterable):
        raise HookProblem(f"{expected}, not {type(returned).__name__}")
    registrations = list(returned)
    for registration in registrations:
        if not isinstance(registration, kind):
            raise HookProblem(f"{expected}, not of {type(registration).__name__}")
        if not callable(registration.factory):
            raise HookProblem(f"{hook}: the factory is not callable")
        _check_options(hook, registration.options)
    if len(registrations) > 1:
        raise HookProblem(f"{hook} returned {len(registrations)} registrations: a plugin has one")
    return registrations[0] if registrations else None


def _check_options(hook: str, options: object) -> None:
    if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
        raise HookProblem(f"{hook}: the options are not a msgspec.Struct")
    try:
        required = [
            field.encode_name for field in msgspec.structs.fields(options) if field.required
        ]
        schema({"": [options]})  # knows every type that can be converted
        if not required:
            options()
    except Exception as error:  # annotations and checks are foreign code: anything may be raised
        raise HookProblem(f"{hook}: the options cannot be used: {one_line(error)}") from error
    if required:
        raise HookProblem(f"{hook}: the option {required[0]} has no default")
