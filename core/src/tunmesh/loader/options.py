"""The plugins' tables of the configuration, converted to the types that the plugins declare."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tunmesh.config.convert import Converter
from tunmesh.config.problems import Problem, join_key, suggestion
from tunmesh.config.types import Config
from tunmesh.interfaces.registration import Registration
from tunmesh.loader.validation import Role


class OptionTables:
    """The tables of a configuration.

    Args:
        config: Holds them.
        environ: For ``${NAME}`` in them.
    """

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ

    def convert(
        self, name: str, role: Role, registrations: Mapping[Role, Registration[Any, Any]]
    ) -> tuple[Any, list[Problem]]:
        """The options of a plugin for a role, and what is wrong with them.

        Args:
            name: The plugin.
            role: The role.
            registrations: What the plugin offers; all of its roles share the table.
        """
        converter = Converter(self._config.origin, self._environ)
        shared = {
            field
            for registration in registrations.values()
            for field in registration.options.__struct_encode_fields__
        }
        table = self._config.plugins.tables.get(name, {})
        key = join_key("plugins", name)
        options = converter.table(registrations[role].options, table, key, also=shared)
        return options, converter.problems

    def unknown(self, known: Collection[str]) -> list[Problem]:
        """Tables of plugins that do not exist."""
        return [
            self._config.origin.problem(
                join_key("plugins", name), f"no plugin {name} is installed{suggestion(name, known)}"
            )
            for name in self._config.plugins.tables
            if name not in known
        ]
