"""What plugins are given: each call reaches the node with the plugin's name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from tunmesh.contexts import (
    AddressNodeContext,
    PolicyNodeContext,
    TransportNodeContext,
    TunNodeContext,
)
from tunmesh.errors import BadToken
from tunmesh.identity.secrets import Keyring
from tunmesh.identity.tokens import Tokens
from tunmesh.interfaces.tun import Interface
from tunmesh.testing import FakeReactor, MemoryNetwork, RecordingInbound
from tunmesh.testing.nodes import SimulatedNode

NETWORKS = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))


class FakeHost:
    """A node that remembers."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.calls: list[tuple[object, ...]] = []

    def now(self) -> float:
        return 42.0

    def spawn(
        self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        self.calls.append(("spawn", name, function, args))

    def call_soon_threadsafe(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.calls.append(("call", function, args))

    def device_lost(self, reason: str) -> None:
        self.calls.append(("lost", reason))

    def set_addresses(self, provider: str, addresses: tuple[Interface, ...]) -> None:
        self.calls.append(("addresses", provider, addresses))


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def common(host: FakeHost, name: str) -> dict[str, Any]:
    return {
        "host": host,
        "name": name,
        "options": {"key": "value"},
        "node_id": "0" * 32,
        "node_name": "here",
        "mesh_networks": NETWORKS,
    }


async def nothing() -> None:
    raise AssertionError


def test_every_context(host: FakeHost) -> None:
    context = TunNodeContext(**common(host, "tun_x"))
    assert (context.name, context.node_id, context.node_name) == ("tun_x", "0" * 32, "here")
    assert (context.options, context.mesh_networks) == ({"key": "value"}, NETWORKS)
    assert context.reactor is host.reactor
    assert context.now() == 42.0
    context.start_soon(nothing, 1, 2)
    context.call_soon_threadsafe(print, 3)
    context.device_lost("unplugged")
    assert host.calls == [
        ("spawn", "tun_x", nothing, (1, 2)),
        ("call", print, (3,)),
        ("lost", "unplugged"),
    ]


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.42.7.7", True),
        ("10.43.0.1", False),
        ("fd42::7", True),
        ("fd43::7", False),
        ("fe80::1%eth0", False),
        ("fd42::7%tun1", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_transports_know_what_lies_inside_the_mesh(
    host: FakeHost, address: str, inside: bool
) -> None:
    assert transport_context(host).is_overlay(address) == inside


def transport_context(host: FakeHost, secret: bytes = b"1" * 32) -> TransportNodeContext:
    tokens = Tokens(
        "0" * 32,
        bytes(8),
        Keyring([secret], "test"),
        wall=lambda: 1_700_000_000.0,
        clock=lambda: 0.0,
    )
    return TransportNodeContext(**common(host, "udp_x"), inbound=RecordingInbound(), tokens=tokens)


def test_transports_make_and_check_tokens(host: FakeHost) -> None:
    context = transport_context(host)
    token = context.issue_token("request", {"path": "/join"})
    claims = context.verify_token("request", token.text, {"path": "/join"})
    assert (claims["path"], claims["jti"]) == ("/join", token.id)
    with pytest.raises(BadToken):
        context.verify_token("answer", token.text, {"path": "/join"})
    with pytest.raises(BadToken):
        transport_context(host, b"2" * 32).verify_token("request", token.text, {"path": "/join"})


def test_address_providers_set_addresses_under_their_name(host: FakeHost) -> None:
    context = AddressNodeContext(**common(host, "file"), device="tun1")
    address = ip_interface("10.42.0.1/24")
    context.set_addresses(iter([address]))
    assert host.calls == [("addresses", "file", (address,))]
    assert context.device == "tun1"


def test_policies_speak_through_the_node_record(host: FakeHost) -> None:
    network = MemoryNetwork()
    one = SimulatedNode(network, "one", ["10.42.0.1/24"])
    two = SimulatedNode(network, "two", ["10.42.0.2/24"], [one.endpoint])
    contexts = [PolicyNodeContext(**common(host, "igmp"), mesh=node.mesh) for node in (one, two)]
    network.run_until(network.now() + 5)
    contexts[0].set_attribute(b"groups")
    assert contexts[0].attributes() == {}
    network.run_until(network.now() + 5)
    assert contexts[1].attributes() == {one.key.node_id: b"groups"}
    contexts[0].set_attribute(b"")
    network.run_until(network.now() + 5)
    assert contexts[1].attributes() == {}
    packet = b"\x45" + bytes(19)
    contexts[0].write_packet(packet)
    assert one.tun.written == [bytes(10) + packet]
