"""What an object of a plugin may have beyond its role: following a changed configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class SupportsReload(ABC):
    """May be inherited by a device, an address provider, a transport or a routing policy.

    The keys that it can follow say so: ``Meta(extra={"applies": "live"})``, or ``"reconnect"`` if
    its connections are made anew. The others keep their values until the node is restarted, as do
    all keys of a plugin that has nothing to do with this class.

    .. versionadded:: 0.1
    """

    @abstractmethod
    def reload(self, options: Any) -> None:  # noqa: ANN401  # the plugin's own type
        """Follow other options, without losing a packet.

        Called on the event loop, and must not wait. If it raises, the node goes on, and asks again
        at the next reload.

        Args:
            options: As the context's, converted and checked; of keys that take a restart they have
                the values in force.
        """
