"""Policies that decide about flows, in whole meshes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mesh.simulation import Simulation, drops
from tunmesh.plugin import Direction, Flow, PolicyContext, RoutingPolicy, SupportsVerdict


class Gate(RoutingPolicy, SupportsVerdict):
    """Answers what the test wants.

    Attributes:
        answer: What it says, or raises.
        asked: What it was asked.
    """

    def __init__(self, context: PolicyContext) -> None:
        self.context = context
        self.answer: Any = (True, 60.0)
        self.asked: list[tuple[Flow, Direction]] = []

    def verdict(self, flow: Flow, direction: Direction) -> tuple[bool, float]:
        self.asked.append((flow, direction))
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: tuple[bool, float] = self.answer
        return answer


@pytest.fixture
def simulation() -> Simulation:
    """Two nodes, of which n2 has a gate."""
    simulation = Simulation()
    simulation.start("n1")
    simulation.start("n2", policies={"gate": (Gate, None)})
    simulation.until(simulation.meshed, 10.0)
    simulation.run(1.0)
    return simulation


def gate(simulation: Simulation) -> Gate:
    policy = simulation.nodes["n2"].policies["gate"]
    assert isinstance(policy, Gate)
    return policy


def test_a_policy_knows_who_sends_and_what(simulation: Simulation) -> None:
    assert simulation.pings("n1", "n2", 4)
    assert simulation.pings("n1", "n2", 6)
    n1 = simulation.nodes["n1"].key.node_id
    asked = gate(simulation).asked
    assert {direction for _, direction in asked} == {"inside", "outside"}
    assert {(flow.peer, flow.protocol) for flow, _ in asked} == {(n1, 17)}
    assert gate(simulation).context.node_names() == {n1: "n1"}


def test_a_change_of_mind_holds_at_once_where_the_policy_says_so(simulation: Simulation) -> None:
    assert simulation.pings("n1", "n2")
    gate(simulation).answer = (False, 60.0)
    assert simulation.pings("n1", "n2")  # remembered
    gate(simulation).context.verdicts_changed()
    assert not simulation.pings("n1", "n2")
    assert drops(simulation.nodes["n2"]) == {"denied": 2}
    gate(simulation).answer = (True, 60.0)
    gate(simulation).context.verdicts_changed()
    assert simulation.pings("n1", "n2")


@pytest.mark.parametrize(
    "answer", [OSError("no"), True, (1, 60.0), (True, -1), (True, float("nan")), (True, "x"), None]
)
def test_a_policy_that_fails_lets_nothing_pass_and_is_named(
    simulation: Simulation, answer: object
) -> None:
    gate(simulation).answer = answer
    assert not simulation.pings("n1", "n2")
    assert drops(simulation.nodes["n2"]) == {"error": 2}
    failures = [text for event, text in simulation.nodes["n2"].events if event == "plugin failed"]
    assert len(failures) == 2
    assert all("plugin=gate" in text for text in failures)
    gate(simulation).answer = (True, 60.0)
    simulation.run(1.0)
    assert simulation.pings("n1", "n2")


def test_a_policy_that_always_fails_is_not_reported_for_each_packet(
    simulation: Simulation,
) -> None:
    gate(simulation).answer = OSError("no")
    flow = simulation.flow("n1", "n2", interval=0.1)
    simulation.run(20.0)
    flow.stop()
    events = simulation.nodes["n2"].events
    assert 5 <= sum(event == "plugin failed" for event, _ in events) <= 25
    assert drops(simulation.nodes["n2"])["error"] == flow.sent
