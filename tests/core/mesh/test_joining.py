"""Bootstrap groups: URLs are resolved, asked, and asked again when who answered is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.fakes import RecordingTransport
from tests.core.peering.services import MiddleRandom
from tunmesh.errors import EndpointError
from tunmesh.interfaces.transport import PathHandle, Transport
from tunmesh.mesh.carriers import Carriers
from tunmesh.mesh.joining import Joining
from tunmesh.peering.path import Path
from tunmesh.peering.peer import Peer
from tunmesh.session.events import KeyLearned
from tunmesh.timers import Timers

OWN, OTHER = "0" * 32, "1" * 32
SEED = "test://seed:1"


class PickyTransport(RecordingTransport):
    """Refuses some endpoints."""

    def connect(self, endpoint: str) -> PathHandle:
        if "bad" in endpoint:
            raise EndpointError(f"{endpoint} is bad")
        return super().connect(endpoint)


class Bench:
    """One node that joins."""

    def __init__(self) -> None:
        self.now = 100.0
        self.transport = PickyTransport()
        self.carriers = Carriers(())
        self.carriers.add(self.transport)
        self.timers = Timers()
        self.resolving: list[tuple[str, Callable[[tuple[str, ...]], None]]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.made = 0
        self.joining = Joining(
            OWN,
            self.carriers,
            self._make,
            resolve=self._resolve,
            timers=self.timers,
            clock=lambda: self.now,
            observer=self,
            rng=MiddleRandom(1),
        )

    def _make(self, now: float, attempt: int) -> tuple[int, bytes]:
        self.made += 1
        return self.made, b"query %d" % self.made

    def _resolve(
        self, transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
    ) -> None:
        self.resolving.append((url, found))

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def peer_up(self, peer: Peer) -> None:
        raise AssertionError

    def peer_down(self, peer: Peer, reason: str) -> None:
        raise AssertionError

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        raise AssertionError

    def routes_changed(self) -> None:
        raise AssertionError

    def claims_changed(self) -> None:
        raise AssertionError

    def underlay_changed(self) -> None:
        raise AssertionError

    def group(self, *urls: str, retries: int = -1) -> None:
        self.joining.add_group("seeds", urls, retries, lambda: 5.0)

    def resolved(self, *endpoints: str) -> None:
        """Let the oldest look-up end."""
        self.resolving.pop(0)[1](endpoints)

    def run(self, until: float) -> None:
        while (deadline := self.timers.next_deadline()) <= until:
            self.now = max(deadline, self.now)
            self.timers.run(self.now)
        self.now = until

    def exhausted(self) -> bool:
        return self.joining.groups[0].exhausted

    def learned(self, index: int, node_id: str = OTHER) -> bool:
        return self.joining.answered(KeyLearned(index, b"1" * 32, node_id, 3, b"psk1"))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_url_is_resolved_and_its_endpoints_are_asked(bench: Bench) -> None:
    bench.group(SEED)
    bench.joining.run(100.0)
    assert [url for url, _ in bench.resolving] == [SEED]
    assert bench.transport.sends == []
    bench.now = 101.0
    bench.resolved("test://one:1", "test://two:1")
    assert [sent.handle.endpoint for sent in bench.transport.sends] == [
        "test://one:1",
        "test://two:1",
    ]
    assert bench.transport.datagrams == [b"query 1", b"query 2"]
    bench.run(101.3)
    assert bench.made == 4


def test_without_groups_there_is_nothing_to_do(bench: Bench) -> None:
    bench.joining.run(100.0)
    assert bench.timers.next_deadline() == float("inf")


def test_an_answer_ends_the_search(bench: Bench) -> None:
    bench.group(SEED)
    bench.joining.run(100.0)
    bench.resolved("test://one:1")
    assert bench.learned(1)
    assert bench.joining.groups[0].nodes == {OTHER}
    assert not bench.learned(1)
    bench.run(200.0)
    assert (bench.made, bench.resolving) == (1, [])


def test_this_node_itself_is_no_answer(bench: Bench) -> None:
    bench.group(SEED, "test://other:1")
    bench.joining.run(100.0)
    bench.resolved("test://one:1")
    assert not bench.learned(1, OWN)
    group = bench.joining.groups[0]
    assert (group.nodes, group.satisfied) == (frozenset(), False)
    bench.resolved("test://one:1")
    assert not bench.learned(2, OWN)
    assert group.satisfied


def test_rounds_follow_the_interval(bench: Bench) -> None:
    bench.group(SEED, retries=2)
    bench.joining.run(100.0)
    times = []
    for _ in range(3):
        times.append(bench.now)
        bench.resolved("test://one:1")
        bench.run(bench.now + 5.0)
    assert times == [100.0, 105.0, 110.0]
    assert bench.resolving == []
    assert bench.exhausted()


def test_a_name_that_cannot_be_resolved(bench: Bench) -> None:
    bench.group(SEED, retries=0)
    bench.joining.run(100.0)
    assert not bench.exhausted()
    bench.resolved()
    assert bench.exhausted()
    assert bench.transport.sends == []


def test_a_url_that_no_transport_serves(bench: Bench) -> None:
    bench.group("https://seed.example", SEED, retries=0)
    bench.joining.run(100.0)
    assert bench.events == [
        ("no transport for url", {"group": "seeds", "url": "https://seed.example"})
    ]
    bench.resolved()
    assert bench.exhausted()


def test_an_endpoint_that_cannot_be_used_does_not_stop_the_others(bench: Bench) -> None:
    bench.group(SEED, retries=0)
    bench.joining.run(100.0)
    bench.resolved("test://bad:1", "test://good:1")
    ((name, fields),) = bench.events
    assert (name, fields["url"], str(fields["error"])) == (
        "bad url",
        SEED,
        "test://bad:1 is bad",
    )
    assert [sent.handle.endpoint for sent in bench.transport.sends] == ["test://good:1"]


def test_a_node_that_is_gone_is_looked_for_again(bench: Bench) -> None:
    bench.group(SEED)
    bench.group("test://second:1")
    bench.joining.run(100.0)
    bench.resolved("test://one:1")
    bench.resolved("test://two:1")
    for index, node_id in ((1, OTHER), (2, "2" * 32)):
        assert bench.learned(index, node_id)
    bench.run(150.0)
    bench.joining.node_gone("9" * 32, 150.0)
    bench.run(160.0)
    assert bench.resolving == []
    bench.joining.node_gone(OTHER, 160.0)
    bench.run(160.5)
    assert [url for url, _ in bench.resolving] == [SEED]


def test_groups_change(bench: Bench) -> None:
    bench.group(SEED)
    bench.joining.run(100.0)
    bench.resolved("test://one:1")
    assert bench.learned(1)
    other = "test://other:1"

    def interval() -> float:
        return 5.0

    bench.now = 101.0
    bench.joining.set_groups({"more": ([other], -1, interval), "seeds": ([SEED], -1, interval)})
    assert [url for url, _ in bench.resolving] == [other]
    assert {group.name: group.nodes for group in bench.joining.groups} == {
        "seeds": {OTHER},
        "more": frozenset(),
    }
    bench.joining.set_groups({})
    assert bench.joining.groups == []
    bench.run(200.0)
    assert len(bench.resolving) == 1, "nobody is looked for any more"
