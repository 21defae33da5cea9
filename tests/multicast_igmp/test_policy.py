"""The policy as a whole, with a host and a mesh that the test plays."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest

from tests.multicast_igmp.packets import (
    HOST4,
    HOST6,
    igmp,
    igmp2,
    igmp3,
    mld,
    mld1,
    mld2,
    record,
    report,
)
from tunmesh.errors import BadPacket
from tunmesh.plugin import Duration, GroupMember
from tunmesh.testing import FakePolicyContext
from tunmesh_multicast_igmp.attribute import Membership, decode_membership_untrusted
from tunmesh_multicast_igmp.igmp import decode_igmp_untrusted
from tunmesh_multicast_igmp.messages import Query, RecordType
from tunmesh_multicast_igmp.mld import decode_mld_untrusted
from tunmesh_multicast_igmp.options import Options
from tunmesh_multicast_igmp.policy import IgmpPolicy
from tunmesh_multicast_igmp.state import Filter

ANY = Filter(True, frozenset())
TO_IN, TO_EX, ALLOW = RecordType.TO_IN, RecordType.TO_EX, RecordType.ALLOW
HERE = ip_address("10.42.1.1")


class Bench:
    """A policy that runs."""

    def __init__(self, **options: Any) -> None:
        addresses = (f"{HOST4}/24", "fd42::1/64")
        self.context = FakePolicyContext(Options(**options), name="igmp", addresses=addresses)
        self.policy = IgmpPolicy(self.context)
        self.context.written.clear()

    async def start(self) -> Bench:
        await self.policy.__aenter__()
        return self

    def host(self, *packets: bytes) -> None:
        for packet in packets:
            self.policy.claimed(memoryview(packet))

    def run(self, seconds: float) -> None:
        self.context.run_policy(self.policy, self.context.now() + seconds)

    @property
    def published(self) -> Membership:
        attribute = self.context.attribute
        return decode_membership_untrusted(attribute) if attribute else Membership()

    def queries(self) -> list[Query]:
        """What the host was asked since the last call."""
        written, self.context.written = self.context.written, []
        found = []
        for packet in written:
            four = packet[0] >> 4 == 4
            message = (decode_igmp_untrusted if four else decode_mld_untrusted)(packet)
            assert isinstance(message, Query)
            found.append(message)
        return found


async def started(**options: Any) -> Bench:
    return await Bench(**options).start()


async def test_at_the_start_the_host_is_asked_for_what_it_has_joined_before() -> None:
    bench = await started()
    address = IPv6Address("fe80::6e6f:6465:0:0")  # of the node id
    assert bench.queries() == [Query(IPv4Address(0), 3), Query(address, 2)]
    bench.run(31.25)
    assert len(bench.queries()) == 2
    bench.run(125.0)
    assert len(bench.queries()) == 2
    assert bench.context.device_routes == (ip_network("224.0.0.0/4"),)


async def test_joins_and_leaves_are_published_at_once() -> None:
    bench = await started()
    bench.run(1)
    bench.host(report(record(TO_EX, "239.1.2.3")))
    assert bench.published.groups == {ip_address("239.1.2.3"): ANY}
    bench.run(1)
    bench.host(report(record(TO_EX, "ff15::1")))
    assert set(bench.published.groups) == {ip_address("239.1.2.3"), ip_address("ff15::1")}
    bench.run(1)
    bench.host(report(record(TO_IN, "239.1.2.3")))
    assert bench.published.groups == {ip_address("ff15::1"): ANY}
    bench.run(1)
    bench.host(report(record(TO_IN, "ff15::1")))
    assert bench.context.attribute == b""


async def test_many_changes_are_published_together() -> None:
    bench = await started()
    bench.run(1)
    before = bench.context.published
    for number in range(100):
        bench.host(report(record(TO_EX, f"239.1.2.{number}")))
        bench.run(0.001)
    bench.run(1)
    assert len(bench.published.groups) == 100
    assert bench.context.published - before <= 3


async def test_what_is_left_is_asked_for_once_more() -> None:
    bench = await started()
    bench.queries()
    join, leave = record(TO_EX, "239.1.2.3"), record(TO_IN, "239.1.2.3")
    bench.host(report(join), report(leave), report(leave))
    assert bench.queries() == [Query(IPv4Address(0), 3, ip_address("239.1.2.3"))]
    bench.host(mld1("ff15::1"), mld1("ff15::1", done=True))
    assert [query.group for query in bench.queries()] == [ip_address("ff15::1")]


async def test_older_hosts_are_understood() -> None:
    bench = await started()
    bench.run(1)
    bench.host(igmp2("239.1.2.3"), mld1("ff15::1"))
    bench.run(1)
    assert set(bench.published.groups) == {ip_address("239.1.2.3"), ip_address("ff15::1")}
    bench.host(igmp2("239.1.2.3", leave=True), mld1("ff15::1", done=True))
    bench.run(1)
    assert not bench.published.groups


async def test_what_the_host_does_not_repeat_expires() -> None:
    bench = await started(query_interval=10)
    bench.run(1)
    bench.host(report(record(TO_EX, "239.1.2.3")))
    bench.run(20.4)
    assert bench.published.groups
    bench.run(0.2)
    assert not bench.published.groups


async def test_only_this_hosts_reports_count() -> None:
    bench = await started()
    bench.run(1)
    bench.host(igmp3(record(TO_EX, "239.1.1.1"), source="10.42.1.9"))
    bench.host(igmp3(record(TO_EX, "239.1.1.2"), source="0.0.0.0"))
    bench.host(mld2(record(TO_EX, "ff15::2"), source="::"))
    bench.run(1)
    assert set(bench.published.groups) == {ip_address("239.1.1.2"), ip_address("ff15::2")}
    assert bench.policy.statistics()["foreign_reports"] == 1


async def test_what_is_no_report_is_swallowed_and_what_is_malformed_is_told() -> None:
    bench = await started()
    bench.host(igmp(0x11, 100, to="224.0.0.1"), igmp(0x13), mld(133, bytes(4), to="ff02::2"))
    with pytest.raises(BadPacket):
        bench.host(igmp3()[:-1])
    statistics = bench.policy.statistics()
    assert (statistics["ignored"], statistics["malformed"], statistics["reports"]) == (3, 1, 0)


async def test_a_hundred_thousand_groups_are_a_thousand() -> None:
    bench = await started()
    bench.run(1)
    for first in range(0, 100_000, 250):
        groups = (IPv4Address(0xEF000000 + first + n) for n in range(250))
        bench.host(igmp3(*(record(TO_EX, str(group)) for group in groups)))
    bench.run(1)
    assert len(bench.published.groups) == 1024
    statistics = bench.policy.statistics()
    assert (statistics["own_groups"], statistics["refused"]) == (1024, 100_000 - 1024)


async def test_what_others_publish_becomes_routes() -> None:
    bench, other = await started(rate_limit=7), await started(router_ports=True)
    other.run(1)
    other.host(report(record(ALLOW, "232.1.1.1", HOST4)), report(record(TO_EX, "239.1.2.3")))
    other.run(1)
    a, b = "a" * 32, "b" * 32
    bench.context.other_nodes = {a: (ip_address("10.42.1.2"),), b: (ip_address("10.42.1.3"),)}
    bench.context.other_attributes = {a: other.context.attribute, b: b"nonsense"}
    found = {(str(r.prefix), r.origin): r.peers for r in bench.policy.routes() if r.peers}
    assert found == {
        ("224.0.0.0/4", None): (a,),
        ("ff00::/8", None): (a,),
        ("232.1.1.1/32", HERE): (a,),
        ("239.1.2.3/32", None): (a,),
    }
    bench.host(report(record(TO_EX, "239.1.2.3")))
    members = {(str(each.group), each.node_id) for each in bench.policy.group_members()}
    assert members == {
        ("232.1.1.1", a),
        ("239.1.2.3", a),
        ("239.1.2.3", bench.context.node_id),
    }
    specific = GroupMember(ip_address("232.1.1.1"), a, exclude=False, sources=(HERE,))
    assert specific in list(bench.policy.group_members())
    statistics = bench.policy.statistics()
    assert (statistics["groups"], statistics["bad_attributes"]) == (2, 1)
    assert all(route.limit == 7 for route in bench.policy.routes())


async def test_own_groups_are_routes_to_this_node_at_once() -> None:
    bench = await started()
    changes = bench.context.changes
    bench.host(report(record(TO_EX, "239.1.2.3")))
    (route,) = bench.policy.routes()
    assert (route.peers, bench.context.changes) == ((bench.context.node_id,), changes + 1)
    bench.host(report(record(TO_EX, "239.1.2.3")))
    assert bench.context.changes == changes + 1


async def test_a_router_port_is_published_without_any_group() -> None:
    bench = await started(router_ports=True)
    assert bench.published == Membership({}, router_port=True)


def test_the_host_addresses_of_these_tests() -> None:
    assert ip_address(HOST6).is_link_local


async def test_options_change_while_it_runs() -> None:
    bench = await started()
    group = "239.1.1.1"
    bench.host(igmp3(record(TO_EX, group)))
    bench.queries()
    bench.policy.reload(
        Options(
            query_interval=Duration("10s"),
            mode={"239.9.0.0/16": "flood"},
            rate_limit=7,
            router_ports=True,
            max_groups=1,
        )
    )
    assert bench.published == Membership({ip_address(group): ANY}, True)
    assert {route.limit for route in bench.policy.routes() if route.kind == "multicast"} == {7}
    assert ip_network("239.9.0.0/16") in {route.prefix for route in bench.policy.routes()}
    bench.host(igmp3(record(TO_EX, "239.1.1.2")))
    assert list(bench.published.groups) == [ip_address(group)], "one group at most"
    bench.run(10.0)
    assert bench.queries(), "asked by the new interval"
