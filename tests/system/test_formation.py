"""How a mesh forms: from one known node, by way of any node, without the first one."""

from __future__ import annotations

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import first_replies
from tests.system.lab import eventually


def test_five_nodes_that_know_one_become_a_mesh_that_outlives_it(meshes: MeshFactory) -> None:
    mesh = meshes(*"abcde")
    for name in "abcde":
        mesh.add(name, [mesh.lab["a"].url()])  # the first finds out that this is itself
    last = mesh.start()
    mesh.expect_reachable(3, last)
    mesh.expect_peers()

    sixth = mesh.add("f", [mesh.lab["d"].url()])
    mesh.expect_reachable(3, sixth.start())
    mesh.expect_peers()

    mesh["a"].kill()
    seventh = mesh.add("g", [mesh.lab["c"].url()])
    mesh.expect_reachable(3, seventh.start())
    mesh.expect_peers()
    for node in mesh.running():
        eventually(lambda node=node: "a" not in node.peers(), 15, "the dead node is not up")  # type: ignore[misc]


@pytest.mark.parametrize("families", [(4,), (6,)])
def test_an_underlay_of_one_family_carries_both(
    meshes: MeshFactory, families: tuple[int, ...]
) -> None:
    mesh = meshes(*"abc", families=families)
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh.expect_reachable(3, mesh.start())


def test_the_order_of_starts_does_not_matter(meshes: MeshFactory) -> None:
    mesh = meshes(*"abc")
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh.start("b", "c")
    for name in "bc":
        eventually(mesh[name].ready, 5, f"{name} is up")
    mesh.expect_reachable(6, mesh["a"].start())


def test_two_that_know_each_other_and_start_at_once(meshes: MeshFactory) -> None:
    mesh = meshes(*"ab")
    urls = [mesh.lab["a"].url(), mesh.lab["b"].url()]
    mesh.add("a", urls)
    mesh.add("b", urls)
    mesh.expect_reachable(3, mesh.start())
    mesh.expect_peers()


def test_meshes_with_other_secrets_or_names_never_mix(meshes: MeshFactory) -> None:
    mesh = meshes(*"abcd")
    urls = [host.url() for host in mesh.lab.hosts.values()]
    mesh.add("a", urls)
    mesh.add("b", urls)
    mesh.add("c", urls, options={"mesh": {"secret": "another-secret-0123456789abcdefghijkl"}})
    mesh.add("d", urls, options={"mesh": {"name": "another"}})
    last = mesh.start()
    pair = [mesh["a"], mesh["b"]]
    mesh.expect_reachable(3, last, sources=pair, targets=pair)
    strangers = [
        (source.host, address)
        for source in mesh
        for target in mesh
        if source is not target and not {source.name, target.name} <= {"a", "b"}
        for address in target.overlay
    ]
    assert not first_replies(strangers, 5)
    for node, others in (
        (mesh["a"], {"b"}),
        (mesh["b"], {"a"}),
        (mesh["c"], set()),
        (mesh["d"], set()),
    ):
        status = node.status()
        assert {peer["name"] for peer in status["peers"]} == others
        assert {name for route in status["routes"] for name in route["peers"]} <= others
