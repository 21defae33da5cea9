from __future__ import annotations

import itertools
import math
from ipaddress import ip_address

import pytest

from tests.core.membership.gossip import VERIFIER, World, node_key
from tunmesh.errors import BadPacket
from tunmesh.membership.events import (
    Added,
    Changed,
    Conflict,
    Fresh,
    ProbeHolder,
    Removed,
    Stale,
)
from tunmesh.membership.messages import Listing, Records, encode_message
from tunmesh.membership.records import Profile, sign_record


def test_two_nodes_learn_each_other() -> None:
    world = World()
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    world.link(a, b)
    world.run(1.0)
    assert dict(a.directory.records) == {b.id: b.directory.own}
    assert a.told(Added) == [Added(b.directory.own)]
    assert a.directory.claims.owner(ip_address("10.0.0.2")) == b.id
    assert a.directory.claims.owner(ip_address("10.0.0.1")) == a.id
    assert a.directory.live(b.id)
    assert a.directory.age(b.id, world.now) <= 2.0
    assert a.directory.age(a.id, world.now) == 0.0
    assert a.directory.age("0" * 32, world.now) == math.inf


def test_who_knows_one_node_knows_all_soon() -> None:
    world = World()
    seed, *others = nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 7)]
    for node in others:
        world.link(seed, node)
    world.run(1.0)
    assert world.same()
    assert all(len(node.directory.records) == len(nodes) - 1 for node in nodes)


def test_change_reaches_everybody_at_once() -> None:
    world = World()
    nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 5)]
    for one, other in itertools.pairwise(nodes):
        world.link(one, other)
    world.run(1.0)
    first, last = nodes[0], nodes[-1]
    old = last.directory.own
    last.update(endpoints=("udp://192.0.2.9:1",), attributes={"igmp": b"x"})
    world.run(0.8)
    assert world.same()
    assert first.told(Changed) == [Changed(last.directory.own, old)]


def test_goodbye_is_heard_by_everybody() -> None:
    world = World()
    a, b, c = (world.add(f"10.0.0.{i}/24") for i in range(1, 4))
    world.link(a, b)
    world.link(b, c)
    world.run(1.0)
    c.leave()
    world.run(1.0)
    for node in (a, b):
        assert node.told(Removed) == [Removed(c.id, "left")]
        assert c.id not in node.directory.records
        assert node.directory.claims.owner(ip_address("10.0.0.3")) is None
    # Whoever comes later is told no more than that.
    d = world.add("10.0.0.4/24")
    world.link(d, a)
    world.run(60.0)
    assert set(d.directory.records) == {a.id, b.id}
    assert len(d.events) == 2


def test_node_that_left_comes_back_with_the_same_key() -> None:
    world = World()
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    world.link(a, b)
    world.run(1.0)
    b.leave()
    world.run(1.0)
    world.unlink(a, b)
    # Its clock is wrong: it starts with a smaller number than the goodbye had.
    again = world.add("10.0.0.2/24", key=b.key, boot_id="1" * 16, initial_seq=1)
    world.link(a, again)
    world.run(1.0)
    assert a.told(Added)[-1] == Added(again.directory.own)
    assert a.directory.claims.owner(ip_address("10.0.0.2")) == b.id


@pytest.mark.parametrize("initial_seq", [1, 1000, 5000])
def test_restart_with_the_same_key_takes_over_at_once(initial_seq: int) -> None:
    world = World()
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    world.link(a, b)
    world.run(1.0)
    world.kill(b)
    world.unlink(a, b)
    again = world.add("10.0.0.2/24", key=b.key, boot_id="1" * 16, initial_seq=initial_seq)
    world.link(a, again)
    world.run(0.5)
    assert a.directory.records[b.id].boot_id == "1" * 16
    assert a.directory.claims.owner(ip_address("10.0.0.2")) == b.id
    assert not a.told(Removed)
    assert not a.told(ProbeHolder)


def test_restart_under_another_identity_has_its_address_within_three_seconds() -> None:
    world = World()
    a, b, c = nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 4)]
    world.mesh(*nodes)
    world.run(100.0)
    world.kill(c)
    again = world.add("10.0.0.3/24")
    world.link(a, again)
    world.run(2.5)
    for node in (a, b, again):
        assert node.directory.claims.owner(ip_address("10.0.0.3")) == again.id
        assert node.told(Removed) == [Removed(c.id, "replaced")]
        assert not node.told(Conflict)
        assert not node.told(Stale)


def test_used_address_is_not_given_up_and_all_report_it() -> None:
    world = World()
    a, b, c = nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 4)]
    world.mesh(*nodes)
    world.run(100.0)
    thief = world.add("10.0.0.3/24")
    world.link(a, thief)
    for _ in range(60):
        world.run(1.0)
        owners = {node.directory.claims.owner(ip_address("10.0.0.3")) for node in (a, b, c)}
        assert owners == {c.id}
    for node in (a, b, c, thief):
        assert node.told(Conflict) == [Conflict(ip_address("10.0.0.3"), c.id, thief.id, c.id)]
        assert node.directory.claims.conflicts() == node.told(Conflict)
    thief.update(addresses=("10.0.0.4/24",))
    world.run(1.0)
    for node in (a, b, c, thief):
        assert node.directory.claims.conflicts() == []
        assert node.directory.claims.owner(ip_address("10.0.0.4")) == thief.id


def test_bystanders_agree_on_two_that_start_at_once() -> None:
    world = World(seed=3)
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    one, other = world.add("10.0.0.9/24"), world.add("10.0.0.9/24")
    world.link(a, one)
    world.link(b, other)
    world.run(0.3)
    world.link(a, b)
    world.run(5.0)
    winner = min(one.id, other.id)
    for node in (a, b, one, other):
        assert node.directory.claims.owner(ip_address("10.0.0.9")) == winner


def test_how_long_an_address_has_been_held_survives_being_passed_on() -> None:
    world = World()
    a = world.add("10.0.0.1/24")
    holder = world.add("10.0.0.9/24")
    world.link(a, holder)
    world.run(50.0)
    # Known at once by a newcomer, who hears both claims in one message.
    late = world.add("10.0.0.9/24")
    world.link(a, late)
    world.run(10.0)
    newcomer = world.add("10.0.0.3/24")
    world.link(a, newcomer)
    world.run(5.0)
    assert newcomer.directory.claims.owner(ip_address("10.0.0.9")) == holder.id


def test_silent_local_peer_is_stale_then_forgotten() -> None:
    world = World()
    a, near, far = world.add("10.0.0.1/24"), world.add("10.0.0.2/24"), world.add("10.1.0.2/24")
    world.mesh(a, near, far)
    world.run(10.0)
    near.deaf = far.deaf = True
    world.run(27.0)
    assert not a.told(Stale)
    world.run(5.0)
    assert a.told(Stale) == [Stale(near.id)]
    assert not a.directory.live(near.id)
    assert near.id in a.directory.records
    assert a.directory.claims.owner(ip_address("10.0.0.2")) is None
    world.run(91.0)
    assert a.told(Stale) == [Stale(near.id), Stale(far.id)]
    world.run(600.0)
    assert sorted(map(str, a.told(Removed))) == sorted(
        str(Removed(node.id, "stale")) for node in (near, far)
    )
    assert not a.directory.records


def test_end_of_the_session_does_not_make_a_dead_local_peer_live_longer() -> None:
    world = World()
    a, b, near = (world.add(f"10.0.0.{i}/24") for i in range(1, 4))
    world.mesh(a, b, near)
    world.run(10.0)
    world.kill(near)
    world.run(5.0)
    world.unlink(a, near)
    world.unlink(b, near)
    world.run(27.0)
    assert a.told(Stale) == [Stale(near.id)]


def test_stale_node_comes_back() -> None:
    world = World()
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    world.link(a, b)
    world.run(1.0)
    b.deaf = True
    world.run(40.0)
    b.deaf = False
    world.run(3.0)
    assert a.told(Fresh) == [Fresh(b.id)]
    assert a.directory.claims.owner(ip_address("10.0.0.2")) == b.id
    assert a.directory.live(b.id)


def test_forgotten_node_comes_back() -> None:
    world = World()
    a, b = world.add("10.0.0.1/24"), world.add("10.0.0.2/24")
    world.link(a, b)
    world.run(1.0)
    b.deaf = True
    world.run(1000.0)
    assert a.told(Removed) == [Removed(b.id, "stale")]
    b.deaf = False
    world.run(10.0)
    assert len(a.told(Added)) == 2
    assert a.directory.claims.owner(ip_address("10.0.0.2")) == b.id


def test_node_without_a_session_lives_by_what_others_tell() -> None:
    world = World()
    nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 7)]
    for one, other in itertools.pairwise(nodes):
        world.link(one, other)
    world.run(1000.0)
    first, last = nodes[0], nodes[-1]
    for node in nodes:
        assert not node.told(Stale)
    assert first.directory.age(last.id, world.now) < 60.0
    # And dies with it: what circulates does not keep it alive.
    world.kill(last)
    world.run(180.0)
    assert first.told(Stale) == [Stale(last.id)]
    world.run(700.0)
    assert first.told(Removed) == [Removed(last.id, "stale")]
    assert len(first.told(Added)) == 5


def test_dead_node_stays_dead_although_messages_are_slow() -> None:
    world = World(delay=1.0)
    nodes = [world.add(f"10.{i}.0.1/24") for i in range(1, 8)]
    world.mesh(*nodes)
    world.run(20.0)
    world.kill(nodes[-1])
    world.run(160.0)
    for node in nodes[:-1]:
        assert node.told(Stale) == [Stale(nodes[-1].id)]
        assert not node.told(Fresh)


def test_nothing_is_known_of_a_dead_node_after_the_retention() -> None:
    world = World(retain=900.0, delay=0.5)
    a, b, c = nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 4)]
    world.mesh(*nodes)
    world.run(10.0)
    c.leave()
    world.run(950.0)
    for node in (a, b):
        assert node.directory.age(c.id, world.now) == math.inf
    late = world.add("10.0.0.4/24")
    world.link(a, late)
    world.run(30.0)
    assert late.directory.age(c.id, world.now) == math.inf


def test_two_processes_with_one_key_do_not_storm() -> None:
    world = World()
    one = world.add("10.0.0.2/24")
    twin = world.add("10.0.0.3/24", key=one.key, boot_id="1" * 16)
    first = one.directory.own.seq
    for _ in range(6000):  # a minute in which each keeps hearing what the other one says
        for process, other in ((one, twin), (twin, one)):
            data = encode_message(Records([other.directory.own.token], [0], [0]))
            process.do(process.directory.receive, "0" * 32, data, world.now)
        world.run(0.01)
    signed = one.directory.own.seq + twin.directory.own.seq - 2 * first
    assert 12 <= signed <= 60


def test_bad_record_is_refused_and_the_good_ones_are_kept() -> None:
    world = World()
    a, b = world.add(), world.add()
    good = [
        sign_record(node_key(i), Profile(name="x"), held_s=(), seq=1, boot_id="0" * 16)
        for i in (50, 51)
    ]
    data = encode_message(Records([good[0].token, "bad", good[1].token], [0] * 3, [0] * 3))
    with pytest.raises(BadPacket):
        a.directory.receive(b.id, data, world.now)
    assert set(a.directory.records) == {record.node_id for record in good}
    with pytest.raises(BadPacket):
        a.directory.receive(b.id, b"\xff", world.now)


def test_number_of_nodes_is_limited() -> None:
    world = World()
    nodes = [world.add(f"10.0.{i}.1/24", max_nodes=4) for i in range(8)]
    world.mesh(*nodes)
    world.run(30.0)
    for node in nodes:
        assert len(node.directory.records) == 3
    refusing = [node for node in nodes if node.directory.refused]
    assert refusing
    with pytest.raises(ValueError, match="max_nodes"):
        world.add(max_nodes=1_000_000)


def test_record_that_others_would_refuse_is_not_signed() -> None:
    world = World()
    a = world.add("10.0.0.1/24")
    own = a.directory.own
    for changes in (
        {"addresses": ("10.0.0.1/24", "10.0.0.1/16")},
        {"addresses": ("no address",)},
        {"endpoints": ("nonsense",)},
        {"attributes": {"igmp": bytes(20_000)}},
    ):
        with pytest.raises(BadPacket):
            a.update(**changes)
    with pytest.raises(TypeError):
        a.update(colour="red")
    assert a.directory.own is own
    a.update(name="b")
    assert a.directory.own.name == "b"
    assert a.directory.own.addresses == ("10.0.0.1/24",)
    assert a.directory.own.seq == own.seq + 1


def test_held_time_counts_from_when_the_address_came() -> None:
    world = World()
    a = world.add("10.0.0.1/24")
    world.run(10.0)
    a.update(addresses=("10.0.0.1/24", "10.0.0.2/24"))
    held = list(a.directory.own.held_s)
    assert held == [10.0, 0.0]
    world.run(5.0)
    a.update(addresses=("10.0.0.2/24",))
    held = list(a.directory.own.held_s)
    assert held == [5.0]


def test_own_records_are_not_verified() -> None:
    world = World()
    a = world.add("10.0.0.1/24")
    assert VERIFIER.verify(a.directory.own.token) is a.directory.own


def test_what_has_long_been_dead_is_not_introduced() -> None:
    world = World()
    a, b = world.add(), world.add()
    dead, older, quiet = (
        sign_record(node_key(i), Profile(name="x"), held_s=(), seq=1, boot_id="0" * 16)
        for i in (50, 51, 52)
    )
    tokens = [dead.token, older.token, quiet.token]
    data = encode_message(Records(tokens, [700, 4000, 200], [0, 0, 0]))
    a.do(a.directory.receive, b.id, data, world.now)
    assert a.events == [Added(quiet), Stale(quiet.node_id)]
    assert a.directory.age(dead.node_id, world.now) == 700.0
    assert a.directory.age(older.node_id, world.now) == math.inf
    # A newer record is no sign of life by itself, but what comes from the node is.
    newer = sign_record(node_key(52), Profile(name="y"), held_s=(), seq=2, boot_id="0" * 16)
    data = encode_message(Records([newer.token], [190], [0]))
    a.do(a.directory.receive, b.id, data, world.now)
    assert a.events[2:] == [Changed(newer, quiet)]
    a.do(a.directory.heard, dead.node_id, world.now + 1)
    a.do(a.directory.heard, newer.node_id, world.now + 1)
    assert a.events[3:] == [Added(dead), Fresh(newer.node_id)]


def test_idle_session_of_a_local_node_may_end() -> None:
    world = World()
    a, _b, c = nodes = [world.add(f"10.0.0.{i}/24") for i in range(1, 4)]
    world.mesh(*nodes)
    world.run(10.0)
    world.unlink(a, c)
    world.run(600.0)
    for node in nodes:
        assert not node.told(Stale)
    stranger = node_key(99).node_id
    a.do(a.directory.connected, stranger, world.now)
    a.do(a.directory.disconnected, stranger, world.now)
    assert len(a.directory.records) == 2


def test_link_local_addresses_make_nobody_local() -> None:
    world = World()
    a, b = world.add("10.1.0.1/24", "fe80::1/64"), world.add("10.2.0.1/24", "fe80::2/64")
    world.link(a, b)
    world.run(10.0)
    b.deaf = True
    world.run(100.0)
    assert not a.told(Stale)


def test_stale_node_comes_back_by_what_others_tell() -> None:
    world = World()
    a, b, c = (world.add(f"10.{i}.0.1/24") for i in range(1, 4))
    world.link(a, b)
    world.link(b, c)
    world.run(10.0)
    c.deaf = True
    world.run(200.0)
    assert a.told(Stale) == [Stale(c.id)]
    c.deaf = False
    world.run(45.0)  # they are in no common subnet
    assert a.told(Fresh) == [Fresh(c.id)]


def test_forgotten_node_does_not_come_back_by_an_old_record() -> None:
    world = World()
    a, b = world.add(), world.add()
    old, new = (
        sign_record(node_key(50), Profile(name="x"), held_s=(), seq=seq, boot_id="0" * 16)
        for seq in (1, 2)
    )
    for record, age in ((old, 700), (new, 650)):
        data = encode_message(Records([record.token], [age], [0]))
        a.do(a.directory.receive, b.id, data, world.now)
    assert a.events == []
    assert a.directory.age(old.node_id, world.now) == 650.0


def test_the_younger_of_two_ages_in_one_message_counts() -> None:
    world = World()
    a, b = world.add(), world.add()
    record = sign_record(node_key(50), Profile(name="x"), held_s=(), seq=1, boot_id="0" * 16)
    data = encode_message(Records([record.token], [100], [0]))
    a.do(a.directory.receive, b.id, data, world.now)
    data = encode_message(Listing(record.summary * 2, ages=bytes([10, 50])))
    a.do(a.directory.receive, b.id, data, world.now)
    assert a.directory.age(record.node_id, world.now) == 10.0
