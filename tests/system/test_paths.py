"""Paths that swallow large datagrams, paths that are blocked, and nodes that carry for others."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.system import bulk
from tests.system.conftest import MeshFactory
from tests.system.icmp import PingStream
from tests.system.lab import Host, eventually
from tests.system.node import PATIENCE, Mesh, Node

MIB = 1 << 20


def formed(meshes: MeshFactory, names: str, **options: Any) -> Mesh:
    mesh = meshes(*names, **options)
    for name in names:
        mesh.add(name, [] if name == names[0] else [mesh.lab[names[0]].url()])
    mesh.expect_reachable(3, mesh.start())
    mesh.expect_peers()
    return mesh


def link(node: Node, peer: str) -> dict[str, Any]:
    """The path that a node uses to another one; empty if there is none."""
    links = node.peers().get(peer, {"links": []})["links"]
    return next((link for link in links if link["active"]), {})


def via(node: Node, peer: str) -> str:
    """Through whom a node reaches another one; empty if it does not."""
    return str(node.peers().get(peer, {"via": ""})["via"])


# ---------------------------------------------------------------- path size


def hole(mesh: Mesh, mtu: int) -> float:
    """Swallow larger packets, whichever way they go, without a word; returns the moment."""
    mesh.lab.faults(f"ip length > {mtu} drop\nip6 length > {mtu - 40} drop")
    return time.monotonic()


def largest(mtu: int, endpoint: str) -> int:
    """What is left of an MTU for UDP."""
    return mtu - (48 if "[" in endpoint else 28)


def expect_size(mesh: Mesh, mtu: int, since: float, within: float) -> None:
    """See both ends find what passes, to the byte and in time."""

    def right() -> bool:
        links = [link(mesh["a"], "b"), link(mesh["b"], "a")]
        return all(each and each["mtu"] == largest(mtu, each["endpoint"]) for each in links)

    eventually(right, within * PATIENCE - (time.monotonic() - since), f"the size for {mtu}")


@pytest.mark.parametrize("mtu", [1400, 1300, 1124])
@pytest.mark.parametrize("families", [(4,), (6,)])
def test_a_hole_in_the_path_is_found(
    meshes: MeshFactory, mtu: int, families: tuple[int, ...]
) -> None:
    mesh = formed(meshes, "ab", segmented=True, families=families)
    a, b = mesh["a"], mesh["b"]
    since = hole(mesh, mtu)
    bulk.transfer(a.host, b.host, b.overlay4, MIB, timeout=10 * PATIENCE)
    assert time.monotonic() - since < 10 * PATIENCE
    bulk.transfer(b.host, a.host, a.overlay6, MIB, timeout=10 * PATIENCE)
    expect_size(mesh, mtu, time.monotonic(), 5)
    with PingStream(a.host, b.overlay4, size=1300) as stream:
        time.sleep(1)
    assert stream.lost() == 0


@pytest.mark.parametrize("mtu", [1400, 1300, 1124])
def test_a_hole_that_appears_in_mid_flow_is_found(meshes: MeshFactory, mtu: int) -> None:
    mesh = formed(meshes, "ab", segmented=True)
    a, b = mesh["a"], mesh["b"]
    with bulk.flow(a.host, b.host, b.overlay4, seconds=8, timeout=30) as outcomes:
        time.sleep(2)
        since = hole(mesh, mtu)
        expect_size(mesh, mtu, since, 5)
        assert time.monotonic() - since < 5 * PATIENCE
        began = time.monotonic()
        bulk.transfer(a.host, b.host, b.overlay4, MIB, timeout=10 * PATIENCE)
        assert time.monotonic() - began < 10 * PATIENCE
    assert outcomes[0].sha256 == outcomes[1].sha256


def test_a_mesh_that_starts_with_a_hole_is_usable_at_once(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b", segmented=True)
    hole(mesh, 1300)
    for name in "ab":
        mesh.add(name, [mesh.lab["a"].url()])
    since = mesh.start()
    mesh.expect_reachable(3, since)
    expect_size(mesh, 1300, since, 8)


def test_bulk_in_both_directions_makes_no_path_smaller(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "ab", segmented=True)
    a, b = mesh["a"], mesh["b"]
    seen = set()
    with (
        bulk.flow(a.host, b.host, b.overlay4, seconds=5),
        bulk.flow(b.host, a.host, a.overlay4, seconds=5),
    ):
        for _ in range(20):
            time.sleep(0.25)
            seen |= {link(a, "b")["mtu"], link(b, "a")["mtu"]}
    assert seen <= {1472, 1452}, seen


# --------------------------------------------------------- another transport


@pytest.mark.parametrize("blocked", [("a", "b"), ("b",)])
def test_where_udp_is_blocked_https_carries_and_udp_is_taken_again(
    meshes: MeshFactory, blocked: tuple[str, ...]
) -> None:
    mesh = meshes("a", "b")
    options = {"plugins": {"enabled": ["tun_linux", "udp", "https"]}}
    for name in "ab":
        mesh.add(name, [mesh.lab["a"].url()], options=options)
    a, b = mesh["a"], mesh["b"]
    mesh.expect_reachable(3, mesh.start())

    def uses(transport: str) -> bool:
        return link(a, "b").get("transport") == link(b, "a").get("transport") == transport

    eventually(
        lambda: any(
            each["transport"] == "https" and each["state"] == "up"
            for each in a.peers()["b"]["links"]
        ),
        10 * PATIENCE,
        "there is a path over https",
    )
    assert uses("udp")
    with (
        PingStream(a.host, b.overlay4, 0.05) as stream,
        bulk.flow(a.host, b.host, b.overlay6, seconds=10) as outcomes,
    ):
        time.sleep(1)
        mesh.lab.faults("meta l4proto udp drop", hosts=blocked)
        since = time.monotonic()
        eventually(lambda: uses("https"), 5 * PATIENCE, "both use https")
        assert link(a, "b")["reason"] == "no answer"
        time.sleep(5)
        mesh.lab.faults("")
        healed = time.monotonic()
        eventually(lambda: uses("udp"), 35 * PATIENCE, "both use udp again")
        assert link(a, "b")["reason"] == "recovered"
        time.sleep(2)
    assert stream.recovery(since) <= 5 * PATIENCE
    assert not [e for e in stream.echoes if e.sent >= healed and e.received is None]
    assert outcomes[0].sha256 == outcomes[1].sha256  # the flow went on
    for node in (a, b):
        assert "peer down" not in node.log_text()


# ------------------------------------------------------------------- relays


def mac(host: Host) -> str:
    return str(host.ip("-j", "link", "show", "dev", "eth0")[0]["address"])


def block(mesh: Mesh, *names: str) -> float:
    """Let nothing pass between hosts, all others can be reached; returns the moment."""
    addresses = ", ".join(mac(mesh[name].host) for name in names)
    mesh.lab.faults(f"ether saddr {{ {addresses} }} drop", hosts=names)
    return time.monotonic()


def test_a_third_node_carries_what_two_cannot_exchange(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abc")
    a, b = mesh["a"], mesh["b"]
    with (
        PingStream(a.host, b.overlay4, 0.05) as there,
        PingStream(b.host, a.overlay6, 0.05) as back,
    ):
        time.sleep(1)
        blocked = block(mesh, "a", "b")
        mesh.expect_reachable(5, blocked, sources=[a, b], targets=[a, b])
        eventually(lambda: via(a, "b") == via(b, "a") == "c", 5, "both go through c")
        assert link(a, "b")["transport"] == "relay"
        assert link(a, "b")["reason"] == "no answer"
        time.sleep(5)
        mesh.lab.faults("")
        healed = time.monotonic()
        eventually(lambda: via(a, "b") == via(b, "a") == "direct", 35 * PATIENCE, "direct again")
        time.sleep(2)
    for stream in (there, back):
        assert stream.recovery(blocked) <= 5 * PATIENCE
        assert not [e for e in stream.echoes if e.sent >= healed and e.received is None]
    for node, other in ((a, b), (b, a)):
        assert f"peer down peer={other.name}" not in node.log_text()
        switches = [line for line in node.log_text().splitlines() if "path changed" in line]
        assert sum("link=relay://" in line for line in switches) == 1, switches
    assert mesh["c"].status()["relay"]["forwarded"] > 100


def test_the_relay_sees_no_plaintext(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abc")
    a, b = mesh["a"], mesh["b"]
    block(mesh, "a", "b")
    eventually(lambda: via(a, "b") == via(b, "a") == "c", 10 * PATIENCE, "both go through c")
    marker = b"in plain sight, 0123456789"
    with (
        mesh.lab.capture("c") as frames,
        b.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        a.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((b.overlay4, 5000))
        receiver.settimeout(5)
        for _ in range(50):
            sender.sendto(marker, (b.overlay4, 5000))
            assert receiver.recv(100) == marker
        eventually(lambda: len(frames) >= 100, 2 * PATIENCE, "both hops of each are captured")
    assert not any(marker in frame for frame in frames)


def test_when_the_relay_dies_another_one_carries(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abcd")
    a, b = mesh["a"], mesh["b"]
    with PingStream(a.host, b.overlay4, 0.05) as stream:
        block(mesh, "a", "b")
        eventually(lambda: via(a, "b") in ("c", "d"), 10 * PATIENCE, "a relay carries")
        time.sleep(2)
        relay = mesh[via(a, "b")]
        died = relay.kill()
        other = ({"c", "d"} - {relay.name}).pop()
        eventually(lambda: via(a, "b") == other, 10 * PATIENCE, "the other one carries")
        time.sleep(2)
    assert stream.recovery(died) <= 5 * PATIENCE


def test_who_is_not_willing_does_not_relay(meshes: MeshFactory) -> None:
    mesh = meshes(*"abc")
    for name in "abc":
        options = {"node": {"relay": False}} if name == "c" else {}
        mesh.add(name, [mesh.lab["a"].url()], options=options)
    mesh.expect_reachable(3, mesh.start())
    block(mesh, "a", "b")
    time.sleep(10)
    assert via(mesh["a"], "b") == ""
    assert mesh["c"].status()["relay"]["forwarded"] == 0


def test_a_gibibit_passes_a_relay_unharmed(
    meshes: MeshFactory, record_property: Callable[[str, object], None]
) -> None:
    mesh = formed(meshes, "abc")
    a, b = mesh["a"], mesh["b"]
    block(mesh, "a", "b")
    eventually(lambda: via(a, "b") == via(b, "a") == "c", 10 * PATIENCE, "both go through c")
    outcome = bulk.transfer(a.host, b.host, b.overlay4, 128 * MIB)
    record_property("mbit_per_s", round(outcome.bytes * 8e-6 / outcome.seconds))
