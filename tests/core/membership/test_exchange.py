from __future__ import annotations

from random import Random

import msgspec

from tests.core.membership.gossip import TIMING, node_key
from tunmesh.membership.exchange import Exchange
from tunmesh.membership.messages import (
    BUCKETS,
    MAX_MESSAGE,
    NO_AGE,
    Buckets,
    Digest,
    Listing,
    Message,
    Records,
    Want,
    decode_message_untrusted,
)
from tunmesh.membership.packing import MOST_LISTED
from tunmesh.membership.records import NodeRecord, Profile, sign_record
from tunmesh.membership.table import Entry, State, Table

SIGNED = sign_record(node_key(1), Profile(name="a"), held_s=(), seq=1, boot_id="0" * 16)
NOW = 1000.0


def fake(bucket: int, number: int, seq: int = 1, token: int = 500) -> NodeRecord:
    """A record as if it had been verified, of a node whose id begins with the bucket."""
    raw = bytes([bucket]) + number.to_bytes(15, "big")
    fingerprint = Random(f"{bucket} {number} {seq}").getrandbits(128)
    return msgspec.structs.replace(
        SIGNED,
        node_id=raw.hex(),
        seq=seq,
        token="t" * token,
        fingerprint=fingerprint,
        summary=raw + seq.to_bytes(8, "big") + fingerprint.to_bytes(16, "big")[:8],
    )


class Side:
    """An exchange over made-up records."""

    def __init__(self, *records: NodeRecord, max_nodes: int = 10_000) -> None:
        self.table = Table()
        for record in records:
            self.table.put(Entry(record, State.LIVE, NOW, NOW))
        self.exchange = Exchange(self.table, Random(1), TIMING, max_nodes, NOW)

    def receive(self, message: Message, now: float = NOW) -> list[tuple[Entry, float]]:
        assert not isinstance(message, Records)
        return self.exchange.receive("peer", message, now)

    def sent(self) -> list[Message]:
        return [decode_message_untrusted(data) for _, data in self.exchange.messages_to_send()]

    def digest(self) -> Digest:
        self.exchange.connected("zz", SIGNED, NOW)
        digest = self.sent()[-1]
        assert isinstance(digest, Digest)
        return digest


def wanted(side: Side) -> set[bytes]:
    found: set[bytes] = set()
    for message in side.sent():
        if isinstance(message, Want):
            ids = message.node_ids
            found |= {ids[start : start + 16] for start in range(0, len(ids), 16)}
    return found


def talk(one: Side, other: Side) -> int:
    """Deliver everything until it is quiet; records are taken as they are."""
    sides = [one, other]
    catalogue = {e.record.node_id: e for side in sides for e in side.table.entries.values()}
    count = 0
    busy = True
    while busy:
        busy = False
        for sender, receiver in (sides, sides[::-1]):
            for message in sender.sent():
                busy = True
                count += 1
                if isinstance(message, Records):
                    continue
                if isinstance(message, Want):
                    ids = message.node_ids
                    for start in range(0, len(ids), 16):
                        entry = receiver.table.entries[ids[start : start + 16].hex()]
                        if entry.record.node_id in sender.table.entries:
                            mine = sender.table.entries[entry.record.node_id]
                            sender.table.replace(mine, entry.record)
                        else:
                            sender.table.put(Entry(entry.record, State.LIVE, NOW, NOW))
                        sender.exchange.arrived(entry.record.node_id)
                receiver.receive(message)
    assert catalogue.keys() == one.table.entries.keys()
    return count


def test_equal_tables_answer_a_digest_with_nothing_and_take_its_ages() -> None:
    one, other = (Side(*(fake(i, i) for i in range(5))) for _ in range(2))
    for entry in other.table.entries.values():
        entry.alive = NOW - 50
    younger = other.receive(one.digest())
    assert other.sent() == []
    assert [alive for _, alive in younger] == [NOW - 2] * 5


def test_ages_of_the_gone_are_not_told() -> None:
    side = Side(fake(1, 1), fake(2, 2), fake(3, 3), fake(4, 4))
    entries = side.table.ordered()
    entries[0].state = State.GONE
    entries[1].state = State.LEFT
    entries[2].alive = NOW - 1e6
    assert side.digest().ages == bytes([NO_AGE, NO_AGE, NO_AGE, 2])


def test_tables_are_made_equal_both_ways() -> None:
    common = [fake(i % BUCKETS, i) for i in range(300)]
    for extra in (3, 40):
        mine = [fake(i % BUCKETS, i) for i in range(1000, 1000 + extra)]
        theirs = [fake(i % BUCKETS, i) for i in range(2000, 2000 + extra)]
        old, new = fake(9, 9, seq=1), fake(9, 9, seq=2)
        one, other = Side(*common, *mine, old), Side(*common, *theirs, new)
        other.receive(one.digest())
        assert talk(one, other) < 12
        assert one.table.digest() == other.table.digest()


def test_one_that_knows_little_is_told_all_at_once() -> None:
    rich, poor = Side(*(fake(i % BUCKETS, i) for i in range(3000))), Side(fake(1, 9999))
    rich.receive(poor.digest())
    listings = rich.sent()
    assert len(listings) > 1
    covered = b""
    for message in listings:
        assert isinstance(message, Listing)
        covered += message.complete
        poor.receive(message)
    assert covered == bytes(range(BUCKETS))
    assert len(wanted(poor)) == 3000


def test_a_bucket_too_large_for_one_message_is_still_told() -> None:
    count = 2 * MOST_LISTED + 1
    rich, poor = Side(fake(1, 1), *(fake(7, i) for i in range(count))), Side(fake(7, 99_999))
    rich.receive(poor.digest())
    for message in rich.sent():
        poor.receive(message)
    assert len(wanted(poor)) == count + 1


def test_ages_come_with_buckets_and_listings_too() -> None:
    common = [fake(i % BUCKETS, i) for i in range(300)]
    one, other = Side(*common), Side(*common, fake(5, 9999))
    for entry in one.table.entries.values():
        entry.alive = NOW - 50
    other.receive(one.digest())
    (buckets,) = other.sent()
    assert isinstance(buckets, Buckets)
    younger = one.receive(buckets)
    untold = {entry.record.node_id for entry in one.table.entries.values()} - {
        entry.record.node_id for entry, _ in younger
    }
    assert all(node_id.startswith("05") for node_id in untold)
    (listing,) = one.sent()
    for entry in other.table.entries.values():
        entry.alive = NOW - 100
    younger = other.receive(listing)
    assert {entry.record.node_id for entry, _ in younger} == untold


def test_records_are_sent_in_messages_that_fit() -> None:
    records = [fake(i, i, token=5000) for i in range(20)]
    side = Side(*records)
    ids = b"".join(record.summary[:16] for record in records)
    side.receive(Want(ids + ids + bytes(16)))
    tokens = 0
    for _, data in side.exchange.messages_to_send():
        assert len(data) <= MAX_MESSAGE
        message = decode_message_untrusted(data)
        assert isinstance(message, Records)
        tokens += len(message.tokens)
    assert tokens == 20


def test_a_record_is_asked_for_once_until_the_time_is_over() -> None:
    side = Side()
    news = Listing(fake(1, 1).summary)
    side.receive(news)
    assert len(wanted(side)) == 1
    side.receive(news, NOW + 1)
    assert not wanted(side)
    side.receive(news, NOW + TIMING.want_timeout)
    assert len(wanted(side)) == 1


def test_what_did_not_come_makes_the_next_digest_sooner() -> None:
    side = Side(SIGNED)
    side.exchange.connected("peer", SIGNED, NOW)
    side.receive(Listing(fake(1, 1).summary))
    side.sent()
    deadline = side.exchange.next_deadline()
    assert deadline == NOW + TIMING.want_timeout
    side.exchange.handle_timer(deadline)
    assert isinstance(side.sent()[0], Digest)
    assert side.exchange.next_deadline() > deadline + TIMING.want_timeout
    # And so does the end of the session through which it should have come.
    side.receive(Listing(fake(1, 1).summary), deadline)
    side.exchange.disconnected("peer", deadline)
    assert side.exchange.next_deadline() == deadline + TIMING.want_timeout


def test_old_news_is_answered_with_newer() -> None:
    side = Side(fake(1, 1, seq=2))
    side.receive(Listing(fake(1, 1, seq=1).summary))
    assert side.sent() == [Listing(fake(1, 1, seq=2).summary)]


def test_unknown_nodes_are_not_wanted_beyond_the_limit() -> None:
    side = Side(fake(1, 1), fake(2, 2), max_nodes=2)
    side.receive(Listing(fake(3, 3).summary + fake(1, 1, seq=2).summary))
    assert wanted(side) == {fake(1, 1).summary[:16]}
    empty = Side(max_nodes=2)
    empty.receive(Listing(b"".join(fake(i, i).summary for i in range(5))))
    assert len(wanted(empty)) == 2


def test_many_wants_are_split() -> None:
    side = Side()
    for part in range(3):
        start = part * 900
        summaries = [fake(i % BUCKETS, i).summary for i in range(start, start + 900)]
        side.receive(Listing(b"".join(summaries)))
    assert len(wanted(side)) == 2700


def test_announcements_go_to_those_who_do_not_know() -> None:
    side = Side(SIGNED)
    for peer in ("a", "b", "c"):
        side.exchange.connected(peer, SIGNED, NOW)
    side.sent()
    record = fake(1, 1)
    side.table.put(Entry(record, State.LIVE, NOW, NOW))
    side.exchange.announce(record, "a", NOW)
    side.exchange.receive("b", Listing(record.summary), NOW)
    side.exchange.handle_timer(NOW)
    assert [peer for peer, _ in side.exchange.messages_to_send()] == ["c"]


def test_what_was_overtaken_is_not_announced() -> None:
    side = Side(SIGNED, fake(1, 1))
    side.exchange.connected("a", SIGNED, NOW)
    side.sent()
    entry = side.table.entries[fake(1, 1).node_id]
    side.exchange.announce(entry.record, "b", NOW)
    side.table.replace(entry, fake(1, 1, seq=2))
    side.exchange.announce(entry.record, "b", NOW)
    side.exchange.handle_timer(NOW)
    assert side.sent() == [Listing(fake(1, 1, seq=2).summary)]


def test_announcements_are_gathered() -> None:
    side = Side(SIGNED)
    side.exchange.connected("a", SIGNED, NOW)
    side.sent()
    times = []
    now = NOW
    for number in range(100):
        record = fake(1, number)
        side.table.put(Entry(record, State.LIVE, now, now))
        side.exchange.announce(record, "b", now)
        if now >= side.exchange.next_deadline():
            side.exchange.handle_timer(now)
        times += [now] * len(side.sent())
        now += 0.01
    assert times[0] == NOW
    assert len(times) <= 11


def test_no_more_than_the_fan_out_is_told() -> None:
    side = Side(SIGNED)
    for number in range(50):
        side.exchange.connected(f"p{number}", SIGNED, NOW)
    side.sent()
    side.exchange.handle_timer(NOW + TIMING.digest_max)
    assert len(side.sent()) == TIMING.fan_out


def test_peers_of_other_subnets_get_digests_less_often_unless_something_got_lost() -> None:
    table = Table()
    table.put(Entry(SIGNED, State.LIVE, NOW, NOW))
    exchange = Exchange(table, Random(1), TIMING, 100, NOW, is_local=lambda peer: peer == "near")
    for peer in ("near", "far"):
        exchange.connected(peer, SIGNED, NOW)
    exchange.messages_to_send()
    sent = {"near": 0, "far": 0}
    while (now := exchange.next_deadline()) < NOW + 120:
        exchange.handle_timer(now)
        for peer, data in exchange.messages_to_send():
            assert isinstance(decode_message_untrusted(data), Digest)
            sent[peer] += 1
    assert 12 <= sent["near"] <= 24
    assert 3 <= sent["far"] <= 4
    exchange._hasten(now)
    exchange.handle_timer(exchange.next_deadline())
    assert {peer for peer, _ in exchange.messages_to_send()} == {"near", "far"}
