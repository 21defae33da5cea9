"""Plugins' objects that raise, or answer nonsense: named, contained, and the others are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tunmesh.errors import EndpointError
from tunmesh.interfaces import GroupMember, PathHandle, Route, RoutingPolicy
from tunmesh.mesh.carriers import Carriers
from tunmesh.mesh.policies import Policies
from tunmesh.testing import FakeTransportContext, Faults, MemoryNetwork, MemoryTransport

ROUTE = Route(ip_network("10.1.0.0/16"), "subnet", ("00" * 16,), source="good")
MEMBER = GroupMember(ip_address("239.1.1.1"), "00" * 16, exclude=True, sources=())
GARBAGE: tuple[Any, ...] = (None, 7, "text", [None], {"a": "b"}, {1: 2}, [ROUTE, MEMBER])


class Told:
    """What was reported: an observer, and the function of `Carriers`."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def event(self, name: str, **fields: Any) -> None:
        assert name == "plugin failed"
        self.lines.append((fields["plugin"], fields["error"]))

    def failed(self, name: str, error: Exception) -> None:
        self.lines.append((name, type(error).__name__))


class Ignores:
    """Whatever else policies are entered in."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Bad(RoutingPolicy):
    """Answers everything with one thing, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def _say(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def routes(self) -> Iterable[Route]:
        found: Iterable[Route] = self._say()
        return found

    def group_members(self) -> Iterable[GroupMember]:
        found: Iterable[GroupMember] = self._say()
        return found

    def statistics(self) -> dict[str, int]:
        found: dict[str, int] = self._say()
        return found

    def attributes_changed(self) -> None:
        self._say()


class Good(RoutingPolicy):
    changed = 0

    def routes(self) -> Iterable[Route]:
        return [ROUTE]

    def group_members(self) -> Iterable[GroupMember]:
        return [MEMBER]

    def statistics(self) -> dict[str, int]:
        return {"seen": 1}

    def attributes_changed(self) -> None:
        self.changed += 1


def policies(told: Told, **added: RoutingPolicy) -> Policies:
    nothing: Any = Ignores()
    observer: Any = told
    made = Policies(
        nothing,
        nothing,
        nothing,
        nothing,
        observer,
        clock=lambda: 0.0,
        forget_flows=lambda: None,
    )
    for name, policy in added.items():
        made.add(name, policy)
    return made


@pytest.mark.parametrize("answer", [*GARBAGE, KeyError("a defect")], ids=repr)
def test_what_a_policy_answers_is_looked_at(answer: Any) -> None:
    told = Told()
    asked = policies(told, bad=Bad(answer), good=Good())
    assert asked.routes() == {"bad": (), "good": (ROUTE,)}
    assert asked.group_members() == [MEMBER]
    assert asked.statistics() == {"bad": {}, "good": {"seen": 1}}
    assert {name for name, _ in told.lines} == {"bad"}
    assert len(told.lines) == 3


def test_a_policy_that_raises_keeps_no_other_from_being_told() -> None:
    told, good = Told(), Good()
    policies(told, bad=Bad(KeyError("a defect")), good=good).changed()
    assert good.changed == 1
    assert told.lines == [("bad", "KeyError: 'a defect'")]


class BadTransport(MemoryTransport):
    """Answers everything with one thing, or raises it."""

    def __init__(self, network: MemoryNetwork, answer: Any) -> None:
        super().__init__(FakeTransportContext(name="bad"), network, "bad://a:1")
        self.answer = answer

    def _say(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def local_endpoints(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._say()
        return found

    def connect(self, endpoint: str) -> PathHandle:
        found: PathHandle = self._say()
        return found

    def adopt(self, handle: PathHandle) -> None:
        self._say()

    def release(self, handle: PathHandle) -> None:
        self._say()

    def statistics(self) -> dict[str, int]:
        found: dict[str, int] = self._say()
        return found


@pytest.mark.parametrize("answer", [*GARBAGE, KeyError("a defect")], ids=repr)
def test_what_a_transport_answers_is_looked_at(answer: Any) -> None:
    told, network = Told(), MemoryNetwork(faults=Faults(delay=0.0))
    carriers = Carriers((), told.failed)
    bad = BadTransport(network, answer)
    good = MemoryTransport(FakeTransportContext(name="good"), network, "good://a:1")
    carriers.add(bad)
    carriers.add(good)
    assert carriers.endpoints() == ("good://a:1",)
    assert carriers.statistics() == {"bad": {}, "good": {"sent": 0}}
    with pytest.raises(EndpointError, match="bad failed on bad://b:1"):
        carriers.connect("bad://b:1")
    assert carriers.connect("good://b:1").transport is good
    assert [name for name, _ in told.lines] == ["bad"] * 3
    handle = PathHandle(bad, "bad://b:1", source=b"x", max_datagram=1000)
    carriers.adopt(handle)
    carriers.release(handle)
    assert {name for name, _ in told.lines} == {"bad"}
