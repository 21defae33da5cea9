"""Multicast over the mesh, between ordinary programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.system.conftest import MeshFactory
from tests.system.groups import (
    IGMP,
    Listener,
    Talker,
    group_of,
    meshed,
    wait_for_members,
)
from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh
from tests.system.test_operation import tunmesh

GROUPS = ("239.1.2.3", "ff15::1234")
NAMES = "abcde"


@pytest.fixture
def mesh(meshes: MeshFactory) -> Mesh:
    mesh = meshes(*NAMES)
    for name in NAMES:
        mesh.add(name, [mesh.lab["a"].url()], options=IGMP)
    meshed(mesh)
    return mesh


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("group", GROUPS)
def test_exactly_the_members_get_each_datagram_once(
    mesh: Mesh, programs: ExitStack, group: str
) -> None:
    talker = programs.enter_context(Talker(mesh["a"]))
    members = {name: programs.enter_context(Listener(mesh[name], group)) for name in "bcd"}
    wait_for_members(mesh["a"], group, "b", "c", "d")
    for number in range(50):
        talker.say(group, f"datagram {number}")
        time.sleep(0.002)
    expected = {f"datagram {number}": 1 for number in range(50)}
    for name, listener in members.items():
        eventually(lambda each=listener: each.read() == expected, 2, f"{name} has all")  # type: ignore[misc]
    shown = group_of(mesh["a"], group)
    assert (shown["local"], shown["sources"], shown["packets"], shown["replicas"]) == (
        False,
        None,
        50,
        150,
    )
    assert group_of(mesh["b"], group)["local"]
    peers = mesh["a"].peers()
    assert peers["e"]["tx_packets"] < 40, "a replica went to a node that is no member"


@pytest.mark.parametrize("group", GROUPS)
def test_traffic_follows_joins_and_leaves_within_a_second(
    mesh: Mesh, programs: ExitStack, group: str
) -> None:
    talker = programs.enter_context(Talker(mesh["a"]))
    joins, leaves = [], []
    for _ in range(5):
        with Listener(mesh["b"], group) as listener:
            joins.append(talker.say_until(group, listener, 1.0, "after the join"))
        began = time.monotonic()
        while True:
            before = group_of(mesh["a"], group).get("replicas", 0)
            talker.say(group, "after the leave")
            time.sleep(0.02)
            if group_of(mesh["a"], group).get("replicas", 0) == before:
                break
            assert time.monotonic() - began < 1.0 * PATIENCE
        leaves.append(time.monotonic() - began)
    print(f"join {max(joins) * 1000:.0f} ms, leave {max(leaves) * 1000:.0f} ms at most")  # noqa: T201
    before = mesh["a"].drops()["no_group"]
    for _ in range(10):
        talker.say(group, "for nobody")
    eventually(lambda: mesh["a"].drops()["no_group"] >= before + 10, 1, "counted as no_group")


@pytest.mark.parametrize(
    ("group", "family"), [("232.1.1.1", 0), ("ff3e::8000:1", 1), ("239.4.4.4", 0)]
)
def test_only_the_wanted_source_is_carried(
    mesh: Mesh, programs: ExitStack, group: str, family: int
) -> None:
    a, b, c = (mesh[name] for name in "abc")
    listener = programs.enter_context(Listener(c, group, sources=[a.overlay[family]]))
    talkers = [programs.enter_context(Talker(node)) for node in (a, b)]
    talkers[0].say_until(group, listener, 1.0, "from a")
    for _ in range(20):
        talkers[1].say(group, "from b")
    eventually(lambda: b.drops()["no_group"] >= 20, 1, "b sends nothing")
    assert group_of(b, group).get("replicas", 0) == 0
    assert not listener.got("from b")
    assert listener.sources == {a.overlay[family]}
    shown = group_of(a, group)
    assert (shown["sources"], shown["members"]) == ([a.overlay[family]], ["c"])
    assert shown["memberships"] == [
        {"node": "c", "mode": "include", "sources": [a.overlay[family]]}
    ]


def test_the_commands_show_groups(mesh: Mesh, programs: ExitStack) -> None:
    programs.enter_context(Listener(mesh["b"], "239.1.2.3"))
    programs.enter_context(Listener(mesh["c"], "232.1.1.1", sources=[mesh["a"].overlay4]))
    wait_for_members(mesh["a"], "232.1.1.1", "c")
    wait_for_members(mesh["a"], "239.1.2.3", "b")
    table = tunmesh("groups", "--socket", mesh["a"].socket).splitlines()
    assert table[0].split() == "GROUP SOURCES LOCAL MEMBERS SENT COPIES LIMITED".split()
    assert table[1].split()[:4] == ["232.1.1.1", mesh["a"].overlay4, "no", "c(10.42.1.1)"]
    assert table[2].split()[:4] == ["239.1.2.3", "any", "no", "b"]
    shown = json.loads(tunmesh("groups", "--json", "--socket", mesh["b"].socket))
    assert {entry["group"]: entry["local"] for entry in shown} == {
        "232.1.1.1": False,
        "239.1.2.3": True,
    }
    status = mesh["b"].status()
    assert status["policies"]["igmp"]["own_groups"] == 1
    routes = [route for route in status["routes"] if route["kind"] == "multicast"]
    assert {route["source"] for route in routes} == {"igmp"}
