"""What every plugin's object is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Watch(Protocol):
    """A descriptor that is being watched."""

    def close(self) -> None:
        """Stop watching. May be called twice; must be called before the descriptor is closed."""


class Reactor(Protocol):
    """Persistent readers, whatever event loop runs."""

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """Call `callback` whenever `fd` is readable, until the watch is closed.

        The callback must not block and should read a bounded amount, so that others get their
        turn; what is left makes it be called again.
        """


class Context(Protocol):
    """What the factory of any role is given.

    Attributes:
        name: The plugin's name, as it stands in the configuration.
        options: The plugin's table of the configuration, converted to its options type.
        node_id: This node's id, 32 hexadecimal digits.
        node_name: This node's name.
        reactor: Watches descriptors.
    """

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> Any: ...  # noqa: ANN401  # each plugin's own type
    @property
    def node_id(self) -> str: ...
    @property
    def node_name(self) -> str: ...
    @property
    def reactor(self) -> Reactor: ...

    def now(self) -> float:
        """Seconds on a clock that never jumps and goes on during suspend (``CLOCK_BOOTTIME``)."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task until it ends or the node stops.

        An exception that leaves the task is logged with the plugin's name and ends only this task.
        """

    def call_soon_threadsafe(self, function: Callable[..., None], *args: Any) -> None:
        """Run `function` on the node's event loop; the only method that other threads may call."""
