"""Networks behind nodes: reached, refused, taken over, and used as the way out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.system import bulk
from tests.system.conftest import MeshFactory
from tests.system.icmp import first_replies
from tests.system.lab import Host, Namespace, eventually
from tests.system.node import PATIENCE, Mesh


@dataclass
class Lan:
    """An Ethernet segment behind some hosts, with one more host on it."""

    hub: Namespace
    host: Namespace

    def attach(self, name: str, namespace: Namespace, interface: str, *addresses: str) -> None:
        """Give a host an interface here."""
        self.hub.ip(
            *("link", "add", name, "type", "veth"),
            *("peer", "name", interface, "netns", namespace.pid),
        )
        self.hub.ip("link", "set", name, "master", "lan", "up")
        namespace.ip("link", "set", interface, "up")
        for address in addresses:
            namespace.ip("address", "add", address, "dev", interface, *_nodad(address))


def _nodad(address: str) -> tuple[str, ...]:
    return ("nodad",) if ":" in address else ()


@pytest.fixture
def lans() -> Iterator[Callable[..., Lan]]:
    """Make segments: the gateway's address is .1, the host's .10."""
    with contextlib.ExitStack() as stack:

        def make(prefix: str, prefix6: str, *gateways: Host) -> Lan:
            hub, host = Namespace(), Namespace()
            stack.callback(host.close)
            stack.callback(hub.close)
            hub.ip("link", "add", "lan", "type", "bridge")
            hub.ip("link", "set", "lan", "up")
            lan = Lan(hub, host)
            lan.attach("host", host, "eth0", f"{prefix}.10/24", f"{prefix6}::10/64")
            for number, gateway in enumerate(gateways, 1):
                lan.attach(
                    f"gw{number}",
                    gateway,
                    "eth1",
                    f"{prefix}.{number}/24",
                    f"{prefix6}::{number}/64",
                )
                forward(gateway)
            host.ip("route", "add", "default", "via", f"{prefix}.1")
            host.ip("-6", "route", "add", "default", "via", f"{prefix6}::1")
            return lan

        yield make


def forward(host: Namespace, value: str = "1") -> None:
    host.sysctl("net/ipv4/ip_forward", value)
    host.sysctl("net/ipv6/conf/all/forwarding", value)


def status(mesh: Mesh, name: str) -> dict[str, Any]:
    found: dict[str, Any] = mesh[name].status() or {"routes": [], "refused": []}
    return found


def way(mesh: Mesh, name: str, prefix: str) -> list[str]:
    """Which nodes a node sends a subnet's packets to."""
    routes = status(mesh, name)["routes"]
    return next((route["peers"] for route in routes if route["prefix"] == prefix), [])


def kernel_routes(host: Namespace) -> set[str]:
    """What a host routes into its device."""
    both = (
        *host.ip("-j", "route", "show", "dev", "tun1"),
        *host.ip("-6", "-j", "route", "show", "dev", "tun1"),
    )
    return {route["dst"] for route in both}


def test_two_networks_reach_each_other_through_both_nodes(
    meshes: MeshFactory, lans: Callable[..., Lan]
) -> None:
    mesh = meshes("a", "b", "c")
    left = lans("192.168.7", "fd07", mesh.lab["a"])
    right = lans("192.168.9", "fd09", mesh.lab["c"])
    urls = [mesh.lab["a"].url()]
    mesh.add("a", urls, options={"node": {"subnets": ["192.168.7.0/24", "fd07::/64"]}})
    mesh.add("b", urls)
    mesh.add("c", urls, options={"node": {"subnets": ["192.168.9.0/24", "fd09::/64"]}})
    mesh.expect_reachable(10, mesh.start())
    for name in "bc":
        eventually(lambda name=name: way(mesh, name, "192.168.7.0/24") == ["a"], 5, "announced")  # type: ignore[misc]
    eventually(
        lambda: (
            {"192.168.7.0/24", "fd07::/64", "192.168.9.0/24", "fd09::/64"}
            <= kernel_routes(mesh.lab["b"])
        ),
        2 * PATIENCE,
        "the host of b routes them",
    )
    before = {node.name: node.drops() for node in mesh}
    for source, target, prefix, prefix6 in (
        (left.host, right.host, "192.168.9", "fd09"),
        (right.host, left.host, "192.168.7", "fd07"),
    ):
        for address in (f"{prefix}.10", f"{prefix6}::10"):
            bulk.transfer(source, target, address, 3_000_000)
    for node in mesh:
        for reason in ("spoofed_source", "misrouted"):
            assert node.drops()[reason] == before[node.name][reason]
    mesh["a"].stop()
    for name in "bc":
        eventually(lambda name=name: not way(mesh, name, "192.168.7.0/24"), 2, "withdrawn")  # type: ignore[misc]
        eventually(
            lambda name=name: "192.168.7.0/24" not in kernel_routes(mesh.lab[name]),  # type: ignore[misc]
            2,
            "the host's route is gone",
        )


def test_another_node_takes_over_a_network_within_five_seconds(
    meshes: MeshFactory, lans: Callable[..., Lan]
) -> None:
    mesh = meshes("a", "b", "c")
    lan = lans("192.168.7", "fd07", mesh.lab["a"], mesh.lab["b"])
    # Answers take the other gateway from the beginning: who announces a network may send from it.
    for prefix, gateway in (("10.42.0.0/16", "192.168.7.2"), ("fd42::/48", "fd07::2")):
        lan.host.ip("route", "add", prefix, "via", gateway)
    urls = [mesh.lab["b"].url()]
    for name, metric in (("a", 5), ("b", 10)):
        node = mesh.add(name, urls)
        text = node.config.read_text()
        lines = ", ".join(
            f'{{prefix = "{prefix}", metric = {metric}}}'
            for prefix in ("192.168.7.0/24", "fd07::/64")
        )
        node.config.write_text(text.replace("[node]\n", f"[node]\nsubnets = [{lines}]\n"))
    mesh.add("c", urls)
    mesh.expect_reachable(10, mesh.start())
    eventually(lambda: way(mesh, "c", "192.168.7.0/24") == ["a"], 5, "the smaller metric is used")
    pairs: list[tuple[Namespace, str]] = [
        (mesh.lab["c"], "192.168.7.10"),
        (mesh.lab["c"], "fd07::10"),
    ]
    assert len(first_replies(pairs, 5)) == 2
    time.sleep(1)
    ping = mesh.lab["c"].popen("ping", "-i", "0.05", "-w", "12", "192.168.7.10")  # as traffic
    time.sleep(1)
    killed = mesh["a"].kill()
    eventually(lambda: way(mesh, "c", "192.168.7.0/24") == ["b"], 10, "the other one is used")
    took = time.monotonic() - killed
    print(f"failover took {took:.2f} s")  # noqa: T201  # pytest shows it
    assert took < 5 * PATIENCE
    replies = first_replies(pairs, 2)
    assert len(replies) == 2
    ping.terminate()
    ping.communicate()
    # What was better takes over again.
    mesh["a"].start()
    eventually(lambda: way(mesh, "c", "192.168.7.0/24") == ["a"], 10, "the better one is back")


def test_what_is_refused_is_shown_and_logged_once(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b")
    subnets = ["8.8.8.0/24", "10.99.0.0/25", "10.96.0.0/12", "0.0.0.0/0", "192.168.7.0/24"]
    mesh.add("a", [mesh.lab["a"].url()], options={"node": {"subnets": subnets}})
    mesh.add("b", [mesh.lab["a"].url()])
    mesh.expect_reachable(10, mesh.start())
    eventually(lambda: way(mesh, "b", "192.168.7.0/24") == ["a"], 5, "announced")
    refused = {
        (entry["prefix"], entry["peer"]): entry["reason"] for entry in status(mesh, "b")["refused"]
    }
    assert refused == {
        ("8.8.8.0/24", "a"): "outside routing.accept_subnets",
        ("0.0.0.0/0", "a"): "outside routing.accept_subnets",
        ("10.99.0.0/25", "a"): "overlaps the connected network 10.99.0.0/24",
        ("10.96.0.0/12", "a"): "overlaps the connected network 10.99.0.0/24",
    }
    time.sleep(1)
    for prefix, _ in refused:
        assert mesh["b"].log_text().count(f"prefix={prefix} ") == 1
        assert prefix not in kernel_routes(mesh.lab["b"])
    # A network that the host is connected to later is not taken over either.
    mesh.lab["b"].ip("address", "add", "192.168.7.77/25", "dev", "eth0")
    eventually(lambda: not way(mesh, "b", "192.168.7.0/24"), 5 * PATIENCE, "it is refused now")
    eventually(
        lambda: "192.168.7.0/24" not in kernel_routes(mesh.lab["b"]), 2 * PATIENCE, "route removed"
    )


def test_a_node_that_does_not_forward_says_so(meshes: MeshFactory) -> None:
    mesh = meshes("a")
    forward(mesh.lab["a"], "0")
    options = {"node": {"subnets": ["192.168.7.0/24", "fd07::/64"]}}
    node = mesh.add("a", [], options=options)
    node.start()
    eventually(node.ready, 10, "it is up")
    warnings = status(mesh, "a")["warnings"]
    assert len(warnings) == 2
    assert "sysctl -w net.ipv4.ip_forward=1" in warnings[0]
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in warnings[1]
    assert all(warning in node.log_text() for warning in warnings)
    assert mesh.lab["a"].run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    forward(mesh.lab["a"])
    assert status(mesh, "a")["warnings"] == []


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_an_exit_node_carries_a_default_route_while_the_mesh_takes_the_underlay(
    meshes: MeshFactory, lans: Callable[..., Lan], rp_filter: int
) -> None:
    mesh = meshes("a", "router", families=(4,))
    lab = mesh.lab
    # The exit node is in another network, which "a" reaches by its default route only.
    outer = lans("198.51.100", "fd98", lab["router"])
    exit_host = outer.host
    internet = Namespace()
    try:
        exit_host.ip(
            "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", internet.pid
        )
        exit_host.ip("link", "set", "eth1", "up")
        exit_host.ip("address", "add", "203.0.113.1/24", "dev", "eth1")
        internet.ip("link", "set", "eth0", "up")
        internet.ip("address", "add", "203.0.113.10/24", "dev", "eth0")
        internet.ip("route", "add", "default", "via", "203.0.113.1")
        forward(exit_host)
        for interface in ("all", "default", "eth0"):
            lab["a"].sysctl(f"net/ipv4/conf/{interface}/rp_filter", str(rp_filter))
        lab["a"].ip("route", "add", "default", "via", lab["router"].address4)
        place: Any = exit_host
        place.number = 9
        lab.hosts["exit"] = place
        url = "udp://198.51.100.10:4567"
        mesh.add("exit", [], options={"node": {"subnets": ["0.0.0.0/0"]}})
        mesh.add("a", [url], options={"routing": {"accept_subnets": ["0.0.0.0/0"]}})
        mesh.expect_reachable(10, mesh.start("exit", "a"))
        eventually(lambda: way(mesh, "a", "0.0.0.0/0") == ["exit"], 5, "the default route is there")
        assert first_replies([(lab["a"], "203.0.113.10")], 5)
        route = lab["a"].ip("-j", "route", "get", "203.0.113.10")[0]
        assert route["dev"] == "tun1"
        bulk.transfer(lab["a"], internet, "203.0.113.10", 3_000_000)
        # The mesh is where it was: on the underlay, and alive.
        time.sleep(3)
        assert mesh["a"].peers()["exit"]["links"][0]["endpoint"] == url
        assert first_replies([(lab["a"], mesh["exit"].overlay4)], 2)
        mesh["a"].stop()
        rules = lab["a"].ip("-j", "rule", "show")
        assert {rule["priority"] for rule in rules} == {0, 32766, 32767}
        mesh["exit"].stop()
    finally:
        lab.hosts.pop("exit", None)
        internet.close()
