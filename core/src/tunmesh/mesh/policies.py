"""Routing policies as the mesh sees them: asked for routes, told of changes and deadlines.

They are plugins' objects: what they raise is reported, and goes no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from tunmesh.counters import check_counters
from tunmesh.errors import BadPacket
from tunmesh.interfaces.policy import (
    Direction,
    Flow,
    GroupMember,
    Route,
    RoutingPolicy,
    SupportsVerdict,
)
from tunmesh.session.limits import TokenBucket

if TYPE_CHECKING:
    from tunmesh.counters import Drops
    from tunmesh.dataplane.claims import Claims
    from tunmesh.dataplane.verdicts import Judge, Refusal, Verdicts
    from tunmesh.interfaces.tun import Network
    from tunmesh.mesh.settings import Observer
    from tunmesh.timers import Timers

T = TypeVar("T")

#: Seconds for which a flow is dropped about which a policy failed to decide.
_FAILED_FOR = 1.0
#: Such failures that are reported in a second, and at once: a stranger may cause any number.
_REPORTS, _BURST = 1.0, 5.0


class Policies:
    """The routing policies of one node.

    Args:
        claims: Where they are entered for the packets that they want.
        verdicts: Where they are entered that decide about flows.
        timers: For their deadlines.
        drops: Where packets are counted that a policy failed on.
        observer: Who is told of failures.
        clock: The time in seconds.
        forget_flows: Has every flow decided about anew.
    """

    def __init__(
        self,
        claims: Claims,
        verdicts: Verdicts,
        timers: Timers,
        drops: Drops,
        observer: Observer,
        *,
        clock: Callable[[], float],
        forget_flows: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._verdicts = verdicts
        self._clock = clock
        self._forget_flows = forget_flows
        self._timers = timers
        self._drops = drops
        self._observer = observer
        self._policies: dict[str, RoutingPolicy] = {}
        self._device_routes: dict[str, tuple[Network, ...]] = {}

    def add(self, name: str, policy: RoutingPolicy) -> None:
        """Take part from now on."""
        self._policies[name] = policy

        def take(packet: memoryview) -> None:
            try:
                policy.claimed(packet)
            except BadPacket:
                raise
            except Exception as error:  # noqa: BLE001  # foreign code, on the way of packets
                self._drops["error"] += 1
                self._failed(name, error)

        self._claims.add(policy.claims, policy.claims_icmpv6, take)
        if isinstance(policy, SupportsVerdict):
            self._verdicts.add(self._judge(name, policy))
            self._forget_flows()

    def _judge(self, name: str, policy: SupportsVerdict) -> Judge:
        """Asks a policy about flows; what it fails on is dropped."""
        reports = TokenBucket(_REPORTS, _BURST, self._clock())

        def judge(flow: Flow, direction: Direction) -> tuple[Refusal | None, float]:
            try:
                allow, seconds = _checked(policy.verdict(flow, direction))
            except Exception as error:  # noqa: BLE001  # foreign code, on the way of packets
                if reports.take(self._clock()):
                    self._failed(name, error)
                return "error", _FAILED_FOR
            return None if allow else "denied", seconds

        return judge

    def wake_at(self, name: str, deadline: float) -> None:
        """Tell a policy when a deadline has passed."""

        def due(now: float) -> None:
            policy = self._policies.get(name)
            if policy is not None:
                self._contained(name, lambda: policy.handle_timer(now), None)

        self._timers.schedule(("policy", name), deadline, due)

    def changed(self) -> None:
        """Other nodes, their attributes or the own addresses changed."""
        for name, policy in self._policies.items():
            self._contained(name, policy.attributes_changed, None)

    def routes(self) -> dict[str, tuple[Route, ...]]:
        """What each policy contributes."""
        nothing: tuple[Route, ...] = ()
        return self._of_each(lambda policy: _all(policy.routes(), Route), nothing)

    def group_members(self) -> Iterable[GroupMember]:
        """What policies know of multicast groups."""
        nobody: tuple[GroupMember, ...] = ()
        found = self._of_each(lambda policy: _all(policy.group_members(), GroupMember), nobody)
        return [member for members in found.values() for member in members]

    def statistics(self) -> dict[str, dict[str, int]]:
        """What policies count."""
        nothing: dict[str, int] = {}
        return self._of_each(lambda policy: check_counters(policy.statistics()), nothing)

    def set_device_routes(self, name: str, prefixes: Iterable[Network]) -> None:
        """What the host routes into the device for a policy."""
        self._device_routes[name] = tuple(prefixes)

    def device_routes(self) -> tuple[Network, ...]:
        """What the host routes into the device for policies."""
        return tuple(prefix for routes in self._device_routes.values() for prefix in routes)

    def _of_each(self, ask: Callable[[RoutingPolicy], T], failed: T) -> dict[str, T]:
        return {
            name: self._contained(name, lambda policy=policy: ask(policy), failed)  # type: ignore[misc]
            for name, policy in self._policies.items()
        }

    def _contained(self, name: str, call: Callable[[], T], failed: T) -> T:
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # foreign code: it must not stop what called here
            self._failed(name, error)
            return failed

    def _failed(self, name: str, error: Exception) -> None:
        self._observer.event("plugin failed", plugin=name, error=f"{type(error).__name__}: {error}")


def _all(answer: Iterable[T], kind: type[T]) -> tuple[T, ...]:
    """What a policy answered, if all of it is of a kind."""
    found = tuple(answer)
    for item in found:
        if not isinstance(item, kind):
            raise TypeError(f"{type(item).__name__} instead of {kind.__name__}")
    return found


def _checked(answer: Any) -> tuple[bool, float]:  # noqa: ANN401  # foreign
    """What a policy answered, if it is of any use."""
    allow, seconds = answer
    if not (isinstance(allow, bool) and seconds >= 0):  # NaN is neither
        raise ValueError(f"no verdict: {answer!r}")
    return allow, seconds
