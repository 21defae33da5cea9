"""Multicast over the mesh, between ordinary programs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.multicast_igmp.packets import igmp3
from tests.system.conftest import MeshFactory
from tests.system.groups import (
    DEVICE,
    IGMP,
    PORT,
    Listener,
    Talker,
    group_of,
    meshed,
    queried,
    wait_for_members,
)
from tests.system.lab import Host, eventually
from tests.system.node import PATIENCE, TUNMESH, Mesh
from tests.system.test_operation import tunmesh
from tunmesh_multicast_igmp.messages import Record, RecordType

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
    assert table[0].split() == ["GROUP", "SOURCES", "LOCAL", "MEMBERS", "SENT", "COPIES", "LIMITED"]
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


@pytest.mark.parametrize(("group", "family"), [("239.5.5.5", 0), ("ff15::5", 1)])
def test_an_unwanted_source_is_not_carried(
    mesh: Mesh, programs: ExitStack, group: str, family: int
) -> None:
    a, b, c = (mesh[name] for name in "abc")
    listener = programs.enter_context(Listener(c, group))
    listener.block(b.overlay[family])
    talkers = [programs.enter_context(Talker(node)) for node in (a, b)]
    eventually(
        lambda: (
            [m["sources"] for m in group_of(b, group).get("memberships", [])]
            == [[b.overlay[family]]]
        ),
        1,
        "b knows that it is not wanted",
    )
    for _ in range(20):
        talkers[1].say(group, "from b")
    talkers[0].say_until(group, listener, 1.0, "from a")
    eventually(lambda: b.drops()["no_group"] >= 20, 1, "b sends nothing")
    assert group_of(b, group).get("replicas", 0) == 0
    assert listener.sources == {a.overlay[family]}


def test_hosts_of_old_versions_are_members(meshes: MeshFactory, programs: ExitStack) -> None:
    mesh = meshes("a", "b", "c", "d")
    for name in "abcd":
        mesh.add(name, [mesh.lab["a"].url()], options=IGMP)
    for name, version in (("b", "2"), ("c", "1")):
        mesh.lab[name].sysctl("net/ipv4/conf/all/force_igmp_version", version)
        mesh.lab[name].sysctl("net/ipv6/conf/all/force_mld_version", "1")
    meshed(mesh)
    talker = programs.enter_context(Talker(mesh["a"]))
    for group in GROUPS:
        listeners = [programs.enter_context(Listener(mesh[name], group)) for name in "bcd"]
        for listener in listeners:
            talker.say_until(group, listener, 1.0, f"to {group}")
        listeners[0].close()
        # IGMPv1 has no leave: its groups expire.
        wait_for_members(mesh["a"], group, "c", "d")


def test_a_foreign_query_does_not_make_the_host_forget_sources_for_good(
    meshes: MeshFactory, programs: ExitStack
) -> None:
    # A kernel takes from a v3 query for how long it believes in older queriers: 2 * 2 + 0.5 s.
    quick = {"plugins": {**IGMP["plugins"], "igmp": {"query_interval": "2s"}}}
    mesh = meshes("a", "b", "c")
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()], options=quick)
    meshed(mesh)
    a, b, c = (mesh[name] for name in "abc")
    listener = programs.enter_context(Listener(c, "232.1.1.1", sources=[a.overlay4]))
    talker = programs.enter_context(Talker(a))
    talker.say_until("232.1.1.1", listener, 1.0, "before")
    queried(b, 2)  # from another node: it does not cross the mesh
    time.sleep(0.5)
    assert "V2" not in igmp_mode(c.host)
    queried(c, 2)  # from a router on the same host
    eventually(lambda: "V2" in igmp_mode(c.host), 2, "the host believes the query")
    eventually(lambda: "V3" in igmp_mode(c.host), 15, "and returns to version 3")
    talker.say_until("232.1.1.1", listener, 3.0, "after")
    assert group_of(a, "232.1.1.1")["sources"] == [a.overlay4]


def igmp_mode(host: Host) -> str:
    """The line of the device in ``/proc/net/igmp``."""
    lines = host.inside(lambda: Path("/proc/thread-self/net/igmp").read_text()).splitlines()
    return next(line for line in lines if DEVICE in line)


@pytest.mark.parametrize("strictness", ["0", "1", "2"])
def test_members_senders_and_nodes_may_die_and_come_back(
    meshes: MeshFactory, programs: ExitStack, strictness: str
) -> None:
    mesh = meshes("a", "b")
    for name in "ab":
        for interface in ("all", "default"):
            mesh.lab[name].sysctl(f"net/ipv4/conf/{interface}/rp_filter", strictness)
        mesh.add(name, [mesh.lab["a"].url()], options=IGMP)
    meshed(mesh)
    a, b = mesh["a"], mesh["b"]
    group = "239.1.2.3"
    # A program that stays: it joins again when the device is a new one.
    stays = b.host.popen(*TUNMESH, "multicast", "join", group, "--port", PORT, "--device", DEVICE,
                         "--json", stdout=subprocess.PIPE)  # fmt: skip
    wait_for_members(a, group, "b", within=10)
    talker = programs.enter_context(Talker(a))
    with Listener(b, group) as listener:
        talker.say_until(group, listener, 1.0, "first member")
    with Listener(b, group) as listener:
        talker.say_until(group, listener, 1.0, "member anew")
    for node in (b, a):
        node.kill()
        began = node.start()
        eventually(node.ready, 10, "up again")
        with Listener(b, group) as listener, Talker(a) as again:
            again.say_until(group, listener, 3.0, f"after {node.name}")
        print(f"traffic {time.monotonic() - began:.2f} s after the start of {node.name}")  # noqa: T201
    wait_for_members(a, group, "b", within=5)
    send = [*TUNMESH, "multicast", "send", group, "--port", PORT, "--count", "100", "--rate", "200"]
    a.host.run(*send)
    time.sleep(0.5)
    stays.terminate()
    output, _ = stays.communicate(timeout=10)
    (sender,) = json.loads(output)["senders"]
    assert (sender["received"], sender["lost"], sender["duplicates"]) == (100, 0, 0)


@pytest.mark.parametrize("group", GROUPS)
def test_groups_reach_their_members_over_https_alone(
    meshes: MeshFactory, programs: ExitStack, group: str
) -> None:
    mesh = meshes("a", "b", "c")
    for name in "abc":
        url = f"https://{mesh.lab['a'].address4}:4443"
        mesh.add(name, [url], options={"plugins": {"enabled": ["tun_linux", "https", "igmp"]}})
    meshed(mesh)
    listener = programs.enter_context(Listener(mesh["b"], group))
    talker = programs.enter_context(Talker(mesh["a"]))
    talker.say_until(group, listener, 1.0, "first")
    before = group_of(mesh["a"], group)
    for number in range(50):
        talker.say(group, f"datagram {number}")
    expected = {f"datagram {number}" for number in range(50)}
    eventually(lambda: expected <= set(listener.read()), 2 * PATIENCE, "all arrive")
    assert set(listener.copies.values()) == {1}
    after = group_of(mesh["a"], group)
    assert after["members"] == ["b"]
    assert after["replicas"] - before["replicas"] == 50


def test_a_flood_of_multicast_leaves_unicast_alone(mesh: Mesh, programs: ExitStack) -> None:
    a, b = mesh["a"], mesh["b"]
    listeners = [programs.enter_context(Listener(mesh[name], "239.1.2.3")) for name in "bcd"]
    talker = programs.enter_context(Talker(a))
    talker.say_until("239.1.2.3", listeners[0], 1.0, "first")
    rate = ("--rate", "10000", "--count", "50000", "--size", "200")
    flood = a.host.popen(
        *TUNMESH, "multicast", "send", "239.1.2.3", "--port", PORT, *rate, stdout=subprocess.DEVNULL
    )
    pings = a.host.run("ping", "-q", "-i", "0.01", "-c", "400", b.overlay4, timeout=30)
    flood.terminate()
    flood.wait()
    lost = float(re.search(r"([0-9.]+)% packet loss", pings).group(1))  # type: ignore[union-attr]
    assert lost < 1.0, pings
    shown = group_of(a, "239.1.2.3")
    print(f"ping loss {lost} %, {shown['packets']} sent, {shown['rate_limited']} limited")  # noqa: T201
    assert a.drops()["rate_limited"] == shown["rate_limited"] > 0


def test_a_hundred_thousand_groups_harm_nobody(mesh: Mesh, programs: ExitStack) -> None:
    a, b, c = (mesh[name] for name in "abc")
    listener = programs.enter_context(Listener(c, "239.1.2.3"))
    talker = programs.enter_context(Talker(a))
    talker.say_until("239.1.2.3", listener, 1.0, "before")
    with b.host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
        for first in range(0, 100_000, 100):
            groups = (IPv4Address(0xEF800000 + first + n) for n in range(100))
            records = [Record(RecordType.TO_EX, group) for group in groups]
            raw.sendto(igmp3(*records, source=b.overlay4), ("224.0.0.22", 0))
            time.sleep(0.001)
    eventually(lambda: b.status()["policies"]["igmp"]["refused"] > 90_000, 10, "b refuses")
    assert b.status()["policies"]["igmp"]["own_groups"] == 1024
    eventually(lambda: a.status()["policies"]["igmp"]["groups"] == 1025, 5, "a knows the others")
    talker.say_until("239.1.2.3", listener, 1.0, "after")
    talker.say("239.128.0.5", "to b")
    eventually(lambda: group_of(a, "239.128.0.5")["replicas"] == 1, 1, "b is a member")
