"""The tests that every routing policy has to pass."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest

from tunmesh.errors import BadPacket
from tunmesh.interfaces.policy import (
    Direction,
    Flow,
    GroupMember,
    Route,
    RouteKind,
    RoutingPolicy,
    SupportsVerdict,
)
from tunmesh.loader.validation import Role
from tunmesh.testing.conformance.life import LifeTests
from tunmesh.testing.conformance.names import check_counters
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import Live, Stage
from tunmesh.testing.context import FakePolicyContext

_ADDRESSES = ("10.42.0.1/24", "fd42::1/64")
_OTHERS = {f"{number:02x}" * 16: number for number in range(1, 6)}
#: Seconds that pass in a test of timers, and calls that are too many for them.
_HOUR = 3600.0
_TOO_OFTEN = 20_000
#: Bytes of one record that a policy may fill.
_ATTRIBUTE = 1024


class LivePolicyContext(Live, FakePolicyContext):
    """A routing policy's context on a stage."""


class PolicyConformance(LifeTests):
    """Tests of a routing policy: give `plugin`, and `settings` if it needs any."""

    role: ClassVar[Role] = "policy"

    def settings(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002  # a default
        """The plugin's table of the configuration; `folder` is for files that it needs."""
        return {}

    def make(self, stage: Stage, folder: Path) -> RoutingPolicy:
        """A policy that is not open yet."""
        options = self.options(self.settings(folder))
        context = LivePolicyContext(
            options, stage=stage, name=self.name, addresses=_ADDRESSES, node_name="here"
        )
        made: RoutingPolicy = self.registration().factory(context)
        return made

    def _alone(self, folder: Path) -> tuple[RoutingPolicy, FakePolicyContext]:
        """A policy in virtual time, with a few other nodes."""
        options = self.options(self.settings(folder))
        context = FakePolicyContext(options, name=self.name, addresses=_ADDRESSES)
        context.other_nodes = {
            node: (ipaddress.ip_address(f"10.42.0.{number + 1}"),)
            for node, number in _OTHERS.items()
        }
        return self.registration().factory(context), context

    def test_claims_are_protocol_numbers(self, folder: Path) -> None:
        """Claims are frozen sets of bytes."""
        policy, _ = self._alone(folder)
        assert isinstance(policy, RoutingPolicy)
        for claims in (policy.claims, policy.claims_icmpv6):
            assert isinstance(claims, frozenset)
            assert all(type(number) is int and 0 <= number <= 255 for number in claims)

    @covers("RoutingPolicy.routes", "RoutingPolicy.attributes_changed")
    async def test_routes_lead_to_nodes_that_there_are(self, folder: Path) -> None:
        """Whatever the others publish: they may be broken, or hostile."""
        policy, context = self._alone(folder)
        rng = random.Random(1)
        async with policy:
            for _ in range(200):
                node = rng.choice(list(_OTHERS))
                context.other_attributes[node] = rng.randbytes(rng.randrange(64))
                if rng.random() < 0.1:
                    context.other_attributes.pop(node, None)
                    context.other_nodes.pop(node, None)
                    context.other_attributes.pop(node, None)
                policy.attributes_changed()
                self._check_routes(policy, context)
            context.other_nodes.clear()
            context.other_attributes.clear()
            policy.attributes_changed()
            self._check_routes(policy, context)

    @staticmethod
    def _check_routes(policy: RoutingPolicy, context: FakePolicyContext) -> None:
        known = {context.node_id, *context.other_nodes}
        for route in policy.routes():
            assert isinstance(route, Route), f"routes contributed {route!r}"
            assert isinstance(route.prefix, (IPv4Network, IPv6Network))
            assert route.kind in get_args(RouteKind), f"a route is of the kind {route.kind!r}"
            assert isinstance(route.peers, tuple)
            strangers = set(route.peers) - known
            assert not strangers, f"{route.prefix} leads to {strangers}, which are no nodes"
            assert route.metric >= 0
            assert route.limit >= 0

    @covers("RoutingPolicy.claimed")
    async def test_claimed_packets_may_be_anything(self, folder: Path) -> None:
        """They raise BadPacket or nothing, and are not kept."""
        policy, _ = self._alone(folder)
        rng = random.Random(2)
        async with policy:
            for size in (0, 1, 3, 8, 24, 200, 1400):
                for packet in _claimed(policy, rng.randbytes(size)):
                    view = memoryview(packet)
                    with suppress(BadPacket):
                        policy.claimed(view)
                    view.release()  # raises BufferError if a part of it is kept
                    packet.clear()

    @covers("RoutingPolicy.handle_timer", "PolicyContext.wake_at")
    async def test_timers_do_not_come_too_often(self, folder: Path) -> None:
        """A deadline that has passed may not ask for another that has passed, and so on."""
        policy, context = self._alone(folder)
        async with policy:
            calls = 0
            while context.deadline <= context.clock.now() + _HOUR and calls < _TOO_OFTEN:
                calls += 1
                context.clock.run_until(max(context.deadline, context.clock.now()))
                context.deadline = float("inf")
                policy.handle_timer(context.clock.now())
                if context.clock.now() > 1000.0 + _HOUR:
                    break
            assert calls < _TOO_OFTEN, f"the timer ran {calls} times within an hour"
            policy.handle_timer(context.clock.now())  # earlier than asked for: does no harm

    @covers("RoutingPolicy.group_members", "RoutingPolicy.statistics")
    async def test_what_is_shown_has_its_types(self, folder: Path) -> None:
        """Members of groups, and counters with names, that only grow."""
        policy, context = self._alone(folder)
        async with policy:
            before = check_counters(policy.statistics())
            policy.attributes_changed()
            context.run_policy(policy, context.clock.now() + 10)
            check_counters(policy.statistics(), before)
            for member in policy.group_members():
                assert isinstance(member, GroupMember)
                assert member.group.is_multicast
            assert len(context.attribute) <= _ATTRIBUTE, "its attribute fills the node's record"

    @covers("SupportsVerdict.verdict", "PolicyContext.verdicts_changed")
    async def test_verdicts_hold_for_a_time(self, folder: Path) -> None:
        """Of a policy that decides about flows: yes or no, and seconds from 0 on, for any flow."""
        policy, _ = self._alone(folder)
        if not isinstance(policy, SupportsVerdict):
            pytest.skip("it decides about no flows")
        async with policy:
            for flow in _flows(random.Random(4)):
                for direction in get_args(Direction):
                    allow, seconds = policy.verdict(flow, direction)
                    assert type(allow) is bool
                    assert seconds >= 0


def _flows(rng: random.Random) -> Iterator[Flow]:
    """Flows of all kinds: of known nodes and strangers, with ports and without."""
    for _ in range(500):
        four = rng.random() < 0.5
        size = 4 if four else 16
        source, destination = (ipaddress.ip_address(rng.randbytes(size)) for _ in range(2))
        protocol = rng.choice((1, 6, 17, 58, rng.randrange(256)))
        fragment = rng.random() < 0.1
        ports = protocol in (6, 17) and not fragment
        first, second = (rng.randrange(65536) if ports else 0 for _ in range(2))
        peer = rng.choice((*_OTHERS, "ff" * 16, ""))
        yield Flow(source, destination, protocol, first, second, fragment, peer)


def _claimed(policy: RoutingPolicy, payload: bytes) -> Iterator[bytearray]:
    """Packets to groups, whose headers the core has read, and whose payload nobody has."""
    size = (20 + len(payload)).to_bytes(2, "big")
    for protocol in policy.claims:
        head = b"\x45\0" + size + bytes(4) + bytes((1, protocol, 0, 0))
        yield bytearray(head + bytes((10, 42, 0, 1, 224, 0, 0, 22)) + payload)
    addresses = IPv6Address("fe80::1").packed + IPv6Address("ff02::16").packed
    for kind in policy.claims_icmpv6:
        rest = bytes((kind, 0)) + payload
        yield bytearray(
            b"\x60\0\0\0" + len(rest).to_bytes(2, "big") + b"\x3a\x01" + addresses + rest
        )
