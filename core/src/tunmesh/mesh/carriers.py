"""The transports of a node: who serves which endpoint, and which handles are in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tunmesh.counters import check_counters
from tunmesh.errors import EndpointError

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle, Transport

T = TypeVar("T")

#: Endpoints that others saw this node at, and that are announced besides its own.
_MOST_OBSERVED = 4


class Carriers:
    """The transports of a node.

    Args:
        advertise: Endpoints to announce instead of the transports' own.
        failed: Told the name of a transport that raised, or answered nonsense.

    Attributes:
        transports: In the order of preference.
    """

    def __init__(
        self,
        advertise: tuple[str, ...],
        failed: Callable[[str, Exception], None] = lambda _name, _error: None,
    ) -> None:
        self._failed = failed
        self.transports: list[Transport] = []
        self._advertise = advertise
        self._schemes: dict[str, Transport] = {}
        self._users: dict[PathHandle, int] = {}
        self._observed: dict[str, None] = {}

    def set_advertise(self, advertise: tuple[str, ...]) -> None:
        """Announce these endpoints instead of the transports' own; those, if there are none."""
        self._advertise = advertise

    def add(self, transport: Transport) -> None:
        """Use a transport that listens; of two with one scheme the first is used."""
        self.transports.append(transport)
        for scheme in transport.schemes:
            self._schemes.setdefault(scheme, transport)

    def of(self, url: str) -> Transport | None:
        """The transport that serves a URL."""
        return self._schemes.get(url.partition("://")[0])

    def connect(self, endpoint: str) -> PathHandle:
        """A handle for an endpoint.

        Raises:
            EndpointError: No transport here can reach it.
        """
        transport = self.of(endpoint)
        if transport is None:
            raise EndpointError(f"no transport serves {endpoint}")
        try:
            handle = transport.connect(endpoint)
            handle.transport.name  # noqa: B018  # anything but a handle fails here
        except EndpointError:
            raise
        except Exception as error:  # foreign code
            self._failed(transport.name, error)
            raise EndpointError(f"{transport.name} failed on {endpoint}") from error
        return handle

    def adopt(self, handle: PathHandle) -> None:
        """One more user of a handle."""
        users = self._users.get(handle, 0)
        if not users:
            self._contained(handle.transport, lambda: handle.transport.adopt(handle), None)
        self._users[handle] = users + 1

    def release(self, handle: PathHandle) -> None:
        """One user less."""
        users = self._users.get(handle, 0)
        if users > 1:
            self._users[handle] = users - 1
        elif users:
            del self._users[handle]
            self._contained(handle.transport, lambda: handle.transport.release(handle), None)

    def closed(self, handle: PathHandle) -> None:
        """The transport has forgotten the handle."""
        self._users.pop(handle, None)

    def uses(self, handle: PathHandle) -> bool:
        """Whether the handle is in use."""
        return handle in self._users

    def endpoints(self) -> tuple[str, ...]:
        """Where this node can be reached, best first."""
        found = dict.fromkeys(self._advertise)
        if not found:
            for transport in self.transports:
                found.update(dict.fromkeys(self._own_endpoints(transport)))
        found.update(self._observed)
        return tuple(found)

    def _own_endpoints(self, transport: Transport) -> tuple[str, ...]:
        def ask() -> tuple[str, ...]:
            answer: Any = transport.local_endpoints()
            if not (isinstance(answer, tuple) and all(isinstance(url, str) for url in answer)):
                raise TypeError(f"local_endpoints are a tuple of texts, not {answer!r}")
            return tuple(answer)

        return self._contained(transport, ask, ())

    def statistics(self) -> dict[str, dict[str, int]]:
        """What the transports count."""
        nothing: dict[str, int] = {}
        return {
            transport.name: self._contained(
                transport,
                lambda transport=transport: check_counters(transport.statistics()),  # type: ignore[misc]
                nothing,
            )
            for transport in self.transports
        }

    def _contained(self, transport: Transport, call: Callable[[], T], failed: T) -> T:
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # foreign code: it must not stop what called here
            self._failed(transport.name, error)
            return failed

    def saw(self, observed: str | None) -> bool:
        """Another node told where it sees this one, as behind a NAT; whether that is news."""
        if observed is None or len(self._observed) >= _MOST_OBSERVED:
            return False
        if observed in self.endpoints():
            return False
        self._observed[observed] = None
        return True
