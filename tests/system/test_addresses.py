"""Addresses that nodes take by themselves, and addresses that two nodes claim."""

from __future__ import annotations

import time
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import first_replies
from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh

NODES = "abcdefgh"
NETWORK = "10.42.7.0/28"


def addresses(mesh: Mesh) -> dict[str, list[str]]:
    """What each running node says that it has, without the link-local addresses."""
    found = {}
    for node in mesh.running():
        status = node.status()
        own = status["node"]["addresses"] if status else []
        found[node.name] = [address for address in own if not address.startswith("fe80:")]
    return found


def settled(mesh: Mesh) -> bool:
    """Whether every node routes each address to the node that has it."""
    found = addresses(mesh)
    if not all(len(own) == 2 for own in found.values()):
        return False
    for node in mesh.running():
        status = node.status() or {"routes": [], "conflicts": ["unknown"]}
        routes = {route["prefix"]: route["peers"] for route in status["routes"]}
        for name, own in found.items():
            for address in own if name != node.name else ():
                if routes.get(str(ip_network(ip_interface(address).ip))) != [name]:
                    return False
        if status["conflicts"]:
            return False
    return True


@pytest.mark.timeout(180)
def test_a_small_network_is_shared_without_conflict_and_again_after_a_restart(
    meshes: MeshFactory,
) -> None:
    mesh = meshes(*NODES)
    for name in NODES:
        options: dict[str, Any] = {
            "mesh": {"networks": [NETWORK, "fd42:7::/48"]},
            "node": {"addresses": ["auto"], "state_dir": "state"},
        }
        mesh.add(name, [mesh.lab["a"].url()], options=options)
    found = []
    for _ in range(2):
        mesh.start()
        eventually(lambda: settled(mesh), 20 * PATIENCE, "every node has its addresses")
        shared = addresses(mesh)
        taken = [address for own in shared.values() for address in own]
        assert len(set(taken)) == 2 * len(NODES)
        pairs = [
            (source.host, str(ip_interface(address).ip))
            for source in mesh
            for name, own in shared.items()
            if name != source.name
            for address in own
        ]
        assert len(first_replies(pairs, 10)) == len(pairs)
        for node in mesh:  # the device has them, and no others
            shown = node.host.ip("-j", "address", "show", "dev", "tun1", "scope", "global")
            on_device = {f"{a['local']}/{a['prefixlen']}" for a in shown[0]["addr_info"] if a}
            assert on_device == set(shared[node.name])
        found.append(shared)
        for node in mesh:
            node.stop()
    assert found[0] == found[1]


def test_a_second_node_with_an_address_harms_nobody_and_everybody_knows(
    meshes: MeshFactory,
) -> None:
    mesh = meshes("a", "b", "c")
    urls = [mesh.lab["a"].url()]
    mesh.add("a", urls)
    mesh.add("b", urls)
    mesh.start("a", "b")
    mesh.expect_peers(5)
    time.sleep(2.5)  # what is accepted at once is decided by age; later it stays
    # It has the addresses of b.
    mesh.add("c", urls, number=2)
    with mesh["a"].host.popen("ping", "-i", "0.1", "-w", "6", mesh["b"].overlay4) as ping:
        mesh.start("c")
        _expect_conflict(mesh)
        output = ping.communicate(timeout=20)[0].decode()
    assert " 0% packet loss" in output, output
    mesh["c"].stop()
    for node in mesh.running():
        eventually(
            lambda node=node: not (node.status() or {"conflicts": 1})["conflicts"],  # type: ignore[misc]
            5 * PATIENCE,
            f"{node.name} shows no conflict any more",
        )


def _expect_conflict(mesh: Mesh) -> None:
    """See all nodes show and log that c claims what b holds."""
    address = mesh["b"].overlay4
    for node in mesh:
        conflicts = eventually(
            lambda node=node: (node.status() or {"conflicts": []})["conflicts"],  # type: ignore[misc]
            10 * PATIENCE,
            f"{node.name} shows the conflict",
        )
        if node.name != "c":
            assert f"{address}: held by b, claimed by c" in conflicts
        assert any(address in line for line in conflicts)
        eventually(
            lambda node=node: f"address conflict address={address}" in node.log_text(),  # type: ignore[misc]
            2 * PATIENCE,
            f"{node.name} logs the conflict",
        )
