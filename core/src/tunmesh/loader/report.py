"""What is known of each plugin, for operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tunmesh.errors import (
    DuplicatePlugin,
    PluginApiError,
    PluginError,
    PluginImportError,
    PluginNotFound,
)
from tunmesh.shipped import DISTRIBUTIONS

State: TypeAlias = Literal[
    "available",  # installed, not selected, never imported
    "active",  # selected and usable
    "missing",  # selected, not installed
    "duplicate",  # in more than one distribution
    "import-failed",
    "wrong-api",  # written for another version of the API
    "rejected",  # a hook does not fit
    "failed",  # raised when it was opened or started
]

_STATES: dict[type[PluginError], State] = {
    PluginNotFound: "missing",
    DuplicatePlugin: "duplicate",
    PluginImportError: "import-failed",
    PluginApiError: "wrong-api",
}


class PluginErrors(PluginError):
    """Everything that is wrong with the plugins that a node cannot do without.

    Attributes:
        errors: One for each such plugin.
    """

    def __init__(self, errors: Sequence[PluginError]) -> None:
        self.errors = tuple(errors)
        names = ", ".join(error.name for error in errors)
        super().__init__("cannot be used", name=names)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass
class PluginEntry:
    """One plugin, installed or selected or both.

    Attributes:
        name: Its name.
        distribution: The distribution that holds it, empty if it is not installed.
        version: Version of the distribution.
        roles: The roles that it offers; known of active plugins only.
        state: See `State`.
        failure: Why it cannot be used.
        enabled: Whether it is selected.
        explicit: Whether the configuration or the command line selected it by name.
        warnings: What it uses that a later version will not have, one line each.
    """

    name: str
    distribution: str = ""
    version: str = ""
    roles: tuple[str, ...] = ()
    state: State = "available"
    failure: PluginError | None = None
    enabled: bool = False
    explicit: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why it is not there for a role, one line with its name."""
        if self.error:
            return f"{self.name}: {self.error}"
        install = f", install {DISTRIBUTIONS[self.name]}" if self.name in DISTRIBUTIONS else ""
        return f"{self.name}: is not installed{install}"

    @property
    def error(self) -> str | None:
        """Why it cannot be used, one line without its name."""
        return self.failure.message if self.failure else None

    def fail(self, failure: PluginError, state: State | None = None) -> None:
        """Note why it cannot be used."""
        self.failure = failure
        self.state = state or _STATES.get(type(failure), "rejected")
        self.roles = ()

    def status_dict(self) -> dict[str, Any]:
        """The entry in the status document."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "roles": list(self.roles),
            "state": self.state,
            "error": self.error,
        }


def one_line(error: BaseException) -> str:
    """The type of an exception and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
