"""The answer to ``tunmesh explain``, of nodes in a simulated mesh, and how it is shown."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import anyio
import msgspec
import pytest

from tunmesh.admin.explanation import Explanation
from tunmesh.cli.explain import lines
from tunmesh.errors import AdminError
from tunmesh.mesh import MeshSettings
from tunmesh.node import explain as module
from tunmesh.node.explain import explain
from tunmesh.testing import MemoryNetwork
from tunmesh.testing.nodes import SimulatedNode

LANS = MeshSettings(
    networks=(ip_network("10.42.0.0/16"), ip_network("fd42::/48")),
    accept_subnets=(ip_network("192.168.0.0/17"),),
)


class Trio:
    """Three nodes: one, two with a subnet that others accept, three with one that they refuse."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.one = self.node("one", ["10.42.0.1/24", "fd42::1/64"], [])
        self.two = self.node("two", ["10.42.0.2/24"], [("192.168.1.0/24", 5)])
        self.three = self.node("three", ["10.42.0.3/24"], [("192.168.200.0/24", 0)])
        self.run(5)
        assert self.one.up_peers() == {"two", "three"}

    def node(
        self, name: str, addresses: list[str], subnets: list[tuple[str, int]]
    ) -> SimulatedNode:
        bootstrap = [self.one.endpoint] if name != "one" else []
        return SimulatedNode(
            self.network, name, addresses, bootstrap, settings=LANS, subnets=subnets
        )

    def run(self, seconds: float) -> None:
        self.network.run_until(self.network.now() + seconds)

    async def explain(self, source: str, destination: str, node: str = "one") -> Explanation:
        """The explanation; the mesh has a second to answer."""
        asked: SimulatedNode = getattr(self, node)
        found: list[Any] = []

        async def ask() -> None:
            now = self.network.now()
            found.append(await explain(asked.mesh, asked.tun, source, destination, now))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            self.run(1)
        return msgspec.convert(msgspec.json.decode(msgspec.json.encode(found[0])), Explanation)


@pytest.fixture
def trio() -> Trio:
    return Trio()


def words(explanation: Explanation) -> str:
    return "\n".join(lines(explanation))


async def test_delivered(trio: Trio) -> None:
    found = await trio.explain("-", "10.42.0.2")
    assert (found.source, found.destination) == ("10.42.0.1", "10.42.0.2")
    assert (found.here.verdict, found.here.peers) == ("sent", ("two",))
    assert found.counter == "peers[two].tx_packets"
    (hop,) = found.hops
    assert (hop.ready, hop.slices, hop.peer.state) == (True, 1, "up")
    assert hop.answer is not None
    assert hop.answer.verdict == "delivered"
    assert hop.reply is not None
    assert (hop.reply.peers, hop.reply_refused) == (("one",), None)
    text = words(found)
    assert "two gives it to its host" in text
    assert "memory://two:4567" in text
    assert text.endswith("\nDELIVERED")


@pytest.mark.parametrize(
    ("destination", "reason", "text"),
    [
        ("10.42.9.9", "no_route", "in 10.42.0.0/16 of the mesh, but no node has it"),
        ("8.8.8.8", "outside_network", "outside the mesh and all subnets"),
        ("10.42.0.1", "loopback", "an address of one itself"),
        ("239.1.2.3", "no_group", "a group, taken by no other node"),
    ],
)
async def test_dropped_here(trio: Trio, destination: str, reason: str, text: str) -> None:
    before = trio.one.mesh.drops[reason]
    found = await trio.explain("", destination)
    assert (found.here.verdict, found.here.reason) == ("dropped", reason)
    assert (found.counter, found.count) == (f"drops.{reason}", before)
    assert found.hops == ()
    assert text in words(found)
    assert words(found).splitlines()[-1].startswith(f"DROPPED by one: {reason}: ")


async def test_a_subnet_that_was_refused_says_so(trio: Trio) -> None:
    found = await trio.explain("-", "192.168.200.7")
    assert found.here.reason == "outside_network"
    assert "192.168.200.0/24 of three: outside routing.accept_subnets" in words(found)


async def test_what_comes_from_a_refused_subnet_is_spoofed_for_the_others(trio: Trio) -> None:
    found = await trio.explain("192.168.200.7", "10.42.0.1", "three")
    assert found.here.verdict == "sent"
    assert found.hops[0].answer is not None
    assert found.hops[0].answer.reason == "spoofed_source"
    last = words(found).splitlines()[-1]
    assert last.startswith("DROPPED by one: spoofed_source: ")
    assert "routing.accept_subnets" in last


async def test_what_others_say_of_a_packet_that_does_not_leave(trio: Trio) -> None:
    found = await trio.explain("10.42.0.99", "10.42.0.2")
    assert found.here.reason == "unknown_source"
    assert found.hops[0].answer is not None
    assert found.hops[0].answer.reason == "spoofed_source"
    assert "if it were not:" in words(found)


async def test_a_subnet_shows_its_route_and_whether_the_host_forwards(trio: Trio) -> None:
    trio.two.mesh.explaining._forwards = lambda _version: False
    found = await trio.explain("-", "192.168.1.77")
    (route,) = found.routes
    assert (route.prefix, route.metric, route.peers) == ("192.168.1.0/24", 5, ("two",))
    assert "which does NOT forward to 192.168.1.0/24" in words(found)
    last = words(found).splitlines()[-1]
    assert last == "STUCK at two: run `sysctl -w net.ipv4.ip_forward=1` there"


async def test_a_packet_from_the_mesh(trio: Trio) -> None:
    found = await trio.explain("10.42.0.2", "10.42.0.1")
    assert (found.here.side, found.here.verdict) == ("outside", "delivered")
    assert found.counter == "peers[two].rx_packets"
    assert found.hops[0].answer is not None
    assert found.hops[0].answer.peers == ("one",)
    assert words(found).endswith("DELIVERED")


async def test_all_members_of_a_broadcast_are_asked(trio: Trio) -> None:
    found = await trio.explain("-", "10.42.0.255")
    answers = {hop.peer.name: hop.answer for hop in found.hops}
    assert sorted(answers) == ["three", "two"]
    assert all(answer and answer.verdict == "delivered" for answer in answers.values())
    assert found.counter == "broadcasts"


async def test_who_does_not_answer_is_named(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    trio.two.kill()
    found = await trio.explain("-", "10.42.0.2")
    assert found.hops[0].answer is None
    assert words(found).splitlines()[-1] == "SENT, but no answer from two"
    assert trio.one.mesh.explaining._pending == {}


async def test_a_peer_without_session_is_not_asked(trio: Trio) -> None:
    trio.two.kill()
    trio.run(10)
    found = await trio.explain("-", "10.42.0.2")
    assert (found.hops[0].ready, found.hops[0].answer) == (False, None)
    assert "packets wait for 2 s at most" in words(found)


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("-", "10.42.0", "'10.42.0' is no IP address"),
        ("x", "10.42.0.2", "'x' is no IP address"),
        ("10.42.0.1", "fd42::2", "10.42.0.1 and fd42::2 are of different versions of IP"),
    ],
)
async def test_questions_without_sense(
    trio: Trio, source: str, destination: str, message: str
) -> None:
    with pytest.raises(AdminError, match=message):
        await explain(trio.one.mesh, trio.one.tun, source, destination, 0.0)


async def test_no_address_of_the_version(trio: Trio) -> None:
    with pytest.raises(AdminError, match="this node has no IPv6 address: name the source"):
        await explain(trio.two.mesh, trio.two.tun, "-", "fd42::1", 0.0)
