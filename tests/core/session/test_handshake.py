"""Handshakes between two nodes, message by message, and what attackers get: nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.counters import Drops
from tunmesh.errors import BadHandshake, ConfigError, LocalProtocolError
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.session import cookie, initiator, noise, payload, responder, wire
from tunmesh.session.events import (
    Established,
    Event,
    KeyLearned,
    NoCommonSuite,
    Remote,
    Retry,
    Send,
)
from tunmesh.session.handshake import Handshakes
from tunmesh.session.initiator import Initiation
from tunmesh.session.limits import SourceLimiter
from tunmesh.session.suites import AES256GCM, CHACHA20POLY1305
from tunmesh.session.timing import Timing

SECRET, OTHER_SECRET = b"a secret that the members share", b"a secret of another mesh"
YEAR_NS = 365 * 86_400 * 10**9

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


class Node:
    """One node's handshakes, with a clock that tests set."""

    _numbers = itertools.count(1)

    def __init__(
        self,
        *,
        secrets: Sequence[bytes] = (SECRET,),
        suites: Sequence[int] = (AES256GCM, CHACHA20POLY1305),
        hardware_aes: bool = True,
        key: NodeKey | None = None,
        wall_ns: int = 50 * YEAR_NS,
        forbidden: frozenset[bytes] = frozenset(),
        force_under_load: bool = False,
        mesh: str = "tunmesh",
    ) -> None:
        self.key = key or NodeKey.generate()
        self.static = self.key.x25519_public
        self.drops = Drops()
        self.wall_ns = wall_ns
        self.number = next(self._numbers)
        self.boot_id = self.number.to_bytes(8, "big")
        self.endpoint = f"udp://10.0.{self.number // 256}.{self.number % 256}:4567"
        self.source = self.number.to_bytes(4, "big")
        self.handshakes = Handshakes(
            self.key,
            Keyring(secrets, mesh),
            boot_id=self.boot_id,
            suites=suites,
            hardware_aes=hardware_aes,
            max_datagram=1400,
            wall_ns=self._tick,
            timing=Timing(),
            drops=self.drops,
            forbidden=forbidden.__contains__,
            capabilities=5,
            force_under_load=force_under_load,
        )

    def _tick(self) -> int:
        self.wall_ns += 1000
        return self.wall_ns

    def receive(
        self, data: bytes, sender: Node, now: float = 0.0, *, known: bool = False
    ) -> list[Event]:
        return self.handshakes.receive(data, sender.source, sender.endpoint, now, known=known)

    def initiate(self, peer: Node, now: float = 0.0) -> Initiation:
        return self.handshakes.initiate(peer.static, now)


def sent(events: Sequence[Event]) -> bytes:
    """The only datagram among the events."""
    (datagram,) = [event.datagram for event in events if isinstance(event, Send)]
    return datagram


def established(events: Sequence[Event]) -> Established:
    (event,) = [event for event in events if isinstance(event, Established)]
    return event


def agree(one: Established, two: Established) -> None:
    """Both ends hold matching keys."""
    for sender, receiver in ((one.keypair, two.keypair), (two.keypair, one.keypair)):
        nonce = sender.send_iv.to_bytes(12, "big")
        sealed = sender.send_aead.encrypt(nonce, b"hello", b"")
        assert receiver.recv_iv == sender.send_iv
        assert receiver.recv_aead.decrypt(nonce, sealed, b"") == b"hello"
        assert sender.remote_index == receiver.local_index != 0
        assert sender.suite == receiver.suite


def connect(opener: Node, peer: Node, now: float = 0.0) -> tuple[Established, Established]:
    """A handshake without trouble; the initiator's and the responder's result."""
    answers = peer.receive(opener.initiate(peer, now).datagram, opener, now)
    assert isinstance(answers[0], Established)
    results = opener.receive(sent(answers), peer, now)
    assert len(results) == 1
    agree(established(results), established(answers))
    return established(results), established(answers)


def query(asker: Node, answerer: Node, now: float = 0.0) -> list[Event]:
    _, datagram = asker.handshakes.query(now)
    return asker.receive(sent(answerer.receive(datagram, asker, now)), answerer, now)


# ------------------------------------------------------------------------ the plain way


def test_a_query_teaches_the_key() -> None:
    a, b = Node(), Node()
    index, question = a.handshakes.query(0.0)
    answer = sent(b.receive(question, a))
    assert (len(question), len(answer)) == (96, 80)
    (event,) = a.receive(answer, b)
    assert isinstance(event, KeyLearned)
    assert (event.query_index, event.static, event.node_id) == (index, b.static, b.key.node_id)
    assert a.receive(answer, b) == []
    assert a.drops.seen() == {"replay": 1}
    assert b.handshakes.counters["queried"] == 1


def test_a_node_recognises_itself() -> None:
    a = Node()
    (event,) = query(a, a)
    assert isinstance(event, KeyLearned)
    assert event.static == a.static
    with pytest.raises(LocalProtocolError):
        a.initiate(a)


def test_a_handshake() -> None:
    a, b = Node(), Node()
    initiation = a.initiate(b, 1.0)
    answers = b.receive(initiation.datagram, a, 1.5)
    response = sent(answers)
    assert (len(initiation.datagram), len(response)) == (204, 188)
    (result,) = a.receive(response, b, 2.0)
    assert isinstance(result, Established)
    agree(result, established(answers))
    assert result.keypair.initiator
    assert not established(answers).keypair.initiator
    assert (result.keypair.created, established(answers).keypair.created) == (1.0, 1.5)
    assert result.remote == Remote(
        b.static, b.key.node_id, b.boot_id, 0x8003, 5, 1400, observed=a.endpoint
    )
    assert established(answers).remote == Remote(
        a.static, a.key.node_id, a.boot_id, 0x8003, 5, 1400
    )
    assert not a.drops.seen()
    assert not b.drops.seen()
    assert a.handshakes.counters["ok"] == b.handshakes.counters["ok"] == 1


def test_handshakes_can_be_repeated_in_both_directions() -> None:
    a, b = Node(), Node()
    indices: set[int] = set()
    for now in range(5):
        for one, two in (connect(a, b, float(now)), connect(b, a, now + 0.5)):
            indices.update((one.keypair.local_index, two.keypair.local_index))
    assert len(indices) == 20


def test_simultaneous_open_gives_two_sessions() -> None:
    a, b = Node(), Node()
    from_a, from_b = a.initiate(b), b.initiate(a)
    at_b, at_a = b.receive(from_a.datagram, a), a.receive(from_b.datagram, b)
    agree(established(a.receive(sent(at_b), b)), established(at_b))
    agree(established(b.receive(sent(at_a), a)), established(at_a))


def test_the_suite_follows_from_both_offers() -> None:
    fast, slow = Node(), Node(hardware_aes=False)
    assert isinstance(query(fast, slow)[0], KeyLearned)
    one, _ = connect(fast, slow)
    assert one.keypair.suite == CHACHA20POLY1305
    one, _ = connect(fast, Node())
    assert one.keypair.suite == AES256GCM


def test_a_wrong_guess_of_the_suite_costs_one_round_trip() -> None:
    a, b = Node(), Node(suites=(CHACHA20POLY1305,))
    hint = b.receive(a.initiate(b).datagram, a)
    assert len(sent(hint)) == 64
    assert a.receive(sent(hint), b) == [Retry(b.static)]
    one, _ = connect(a, b, 0.1)
    assert one.keypair.suite == CHACHA20POLY1305


def test_no_common_suite_is_told_on_both_sides() -> None:
    a, b = Node(suites=(AES256GCM,)), Node(suites=(CHACHA20POLY1305,))
    assert query(a, b) == [NoCommonSuite(b.key.node_id)]
    answers = b.receive(a.initiate(b).datagram, a)
    assert answers[0] == NoCommonSuite(a.key.node_id)
    assert a.receive(sent(answers), b) == [NoCommonSuite(b.key.node_id)]
    assert len(a.initiate(b, 1.0).datagram) == 204  # still tried: b may be configured anew
    with pytest.raises(ConfigError, match="cipher suite"):
        Node(suites=())


def test_members_of_old_and_new_secret_understand_each_other() -> None:
    old, new = Node(secrets=(OTHER_SECRET, SECRET)), Node(secrets=(SECRET, OTHER_SECRET))
    for one, two in ((old, new), (new, old)):
        assert isinstance(query(one, two)[0], KeyLearned)
        connect(one, two)


# ---------------------------------------------------------------- losses and repetitions


def test_a_repeated_request_gets_the_same_answer() -> None:
    a, b = Node(), Node()
    request = a.initiate(b).datagram
    answers = b.receive(request, a)
    for now in (0.0, 0.3, 9.9):
        assert b.receive(request, a, now) == [Send(sent(answers))]
    assert b.handshakes.half_open == 1
    assert b.handshakes.counters["repeated"] == 3
    assert not b.drops.seen()


def test_a_replayed_request_gets_a_challenge_at_most() -> None:
    a, b = Node(), Node()
    request = a.initiate(b).datagram
    b.receive(request, a)
    replayed = b.receive(request, a, 10.0)
    assert len(sent(replayed)) == 64
    assert len(replayed) == 1
    assert b.handshakes.half_open == 0
    assert a.receive(sent(replayed), b, 10.0) == []  # nobody waits for it any more
    assert a.drops.seen() == {"replay": 1}


def test_any_request_of_a_burst_may_be_answered() -> None:
    a, b = Node(), Node()
    requests = [a.initiate(b, n * 0.25) for n in range(5)]
    answers = [b.receive(one.datagram, a, one.created + 2) for one in requests]
    results = a.receive(sent(answers[1]), b, 4.0)
    agree(established(results), established(answers[1]))
    for other in (answers[0], answers[2], answers[4]):  # one is enough
        assert a.receive(sent(other), b, 4.1) == []
    assert a.drops.seen() == {"replay": 3}


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    a, b = Node(), Node()
    answer = sent(b.receive(a.initiate(b).datagram, a, 9.0))
    assert a.receive(answer, b, 10.0) == []
    assert a.drops.seen() == {"replay": 1}
    a.handshakes.expire(10.0)
    assert a.handshakes.counters["unanswered"] == 1


def test_requests_of_one_peer_are_spaced() -> None:
    a, b = Node(), Node()
    established(b.receive(a.initiate(b).datagram, a, 0.0))
    assert b.receive(a.initiate(b).datagram, a, 0.01) == []
    assert b.drops.seen() == {"rate_limited": 1}
    established(b.receive(a.initiate(b).datagram, a, 0.02))


def test_requests_out_of_order_are_challenged() -> None:
    a, b = Node(), Node()
    early, late = a.initiate(b), a.initiate(b)
    established(b.receive(late.datagram, a))
    (challenge,) = b.receive(early.datagram, a, 0.1)
    assert isinstance(challenge, Send)
    assert len(challenge.datagram) == 64


# -------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("shift", [-400 * 86_400 * 10**9, 4000 * 86_400 * 10**9])
def test_a_clock_that_jumps_between_runs_costs_one_round_trip(shift: int) -> None:
    key, b = NodeKey.generate(), Node()
    connect(Node(key=key), b)
    restarted = Node(key=key, wall_ns=50 * YEAR_NS + shift)
    if shift < 0:
        challenge = b.receive(restarted.initiate(b).datagram, restarted, 1.0)
        assert restarted.receive(sent(challenge), b, 1.0) == [Retry(b.static)]
    connect(restarted, b, 1.1)
    third = Node(key=key)  # the clock is right again
    if shift > 0:
        challenge = b.receive(third.initiate(b).datagram, third, 2.0)
        assert third.receive(sent(challenge), b, 2.0) == [Retry(b.static)]
    connect(third, b, 2.1)


def test_a_request_recorded_before_a_restart_is_challenged() -> None:
    a, key = Node(), NodeKey.generate()
    recorded = a.initiate(Node(key=key)).datagram
    restarted = Node(key=key, wall_ns=51 * YEAR_NS)
    (answer,) = restarted.receive(recorded, a)
    assert isinstance(answer, Send)
    assert len(answer.datagram) == 64
    assert restarted.handshakes.half_open == 0


def test_a_met_challenge_cannot_be_replayed() -> None:
    a, b = Node(wall_ns=YEAR_NS), Node()
    challenge = b.receive(a.initiate(b).datagram, a)
    assert a.receive(sent(challenge), b) == [Retry(b.static)]
    request = a.initiate(b).datagram
    established(b.receive(request, a))
    for now in (10.0, 60.0):
        assert len(sent(b.receive(request, a, now))) == 64
    assert b.handshakes.half_open == 0
    assert b.handshakes.counters["challenged"] == 3


def test_a_challenge_does_not_excuse_the_very_same_timestamp() -> None:
    # It would leave the timestamp to exceed as it is, so that the request could be replayed.
    a, b = Node(), Node()
    established(b.receive(forge_request(a, b), a))
    request = forge_request(a, b)
    challenge = wire.decode_cookie_untrusted(sent(b.receive(request, a, 1.0)))
    key = cookie.cookie_key(Keyring([SECRET], "tunmesh").current.gate, b.static)
    value = cookie.open_untrusted(key, challenge, request[-32:-16])
    assert len(sent(b.receive(forge_request(a, b, challenge=value), a, 2.0))) == 64
    older = forge_request(a, b, challenge=value, timestamp=59 * YEAR_NS)
    established(b.receive(older, a, 3.0))


def test_a_challenge_holds_for_one_address() -> None:
    a, b, elsewhere = Node(wall_ns=YEAR_NS), Node(), Node()
    a.receive(sent(b.receive(a.initiate(b).datagram, a)), b)
    request = a.initiate(b).datagram
    assert len(sent(b.receive(request, elsewhere))) == 64
    established(b.receive(request, a))


def test_the_timestamp_never_goes_back_within_a_process() -> None:
    a, b = Node(), Node()
    connect(a, b)
    a.wall_ns -= YEAR_NS
    connect(a, b, 1.0)
    assert b.handshakes.counters["challenged"] == 0


# ---------------------------------------------------------------------------- load


def test_under_load_the_address_is_proven_first() -> None:
    a, b = Node(), Node(force_under_load=True)
    answer = b.receive(a.initiate(b).datagram, a)
    assert len(sent(answer)) == 64
    assert b.handshakes.half_open == 0
    assert a.receive(sent(answer), b) == [Retry(b.static)]
    request = a.initiate(b)
    elsewhere = Node()
    assert len(sent(b.receive(request.datagram, elsewhere))) == 64
    answers = b.receive(request.datagram, a)
    agree(established(a.receive(sent(answers), b)), established(answers))
    assert b.handshakes.counters["under_load"] == 2


def test_an_old_cookie_is_replaced() -> None:
    a, b = Node(), Node(force_under_load=True)
    a.receive(sent(b.receive(a.initiate(b).datagram, a)), b)
    request = a.initiate(b).datagram
    assert len(sent(b.receive(request, a, 241.0))) == 64


def test_cookie_and_challenge_together() -> None:
    a, b = Node(wall_ns=YEAR_NS), Node(force_under_load=True)
    for _ in range(2):
        assert a.receive(sent(b.receive(a.initiate(b).datagram, a)), b) == [Retry(b.static)]
    connect(a, b)


def test_a_peer_that_asks_for_ever_is_not_obeyed_for_ever() -> None:
    a, b = Node(), Node(force_under_load=True)
    retries = 0
    for _ in range(20):
        b = Node(key=b.key, force_under_load=True)  # forgets its cookies
        retries += bool(a.receive(sent(b.receive(a.initiate(b).datagram, a)), b))
    assert retries == 1


def test_a_request_is_asked_for_a_cookie_once() -> None:
    a, b = Node(), Node(force_under_load=True)
    request = a.initiate(b).datagram
    assert a.receive(sent(b.receive(request, a)), b) == [Retry(b.static)]
    assert a.receive(sent(b.receive(request, a)), b, 5.0) == []
    assert a.drops.seen() == {"replay": 1}


def test_many_half_open_handshakes_are_load() -> None:
    b = Node()
    strangers = [Node() for _ in range(Timing().under_load_half_open)]
    for number, stranger in enumerate(strangers):
        connect(stranger, b, number * 0.02)
    late = Node()
    now = len(strangers) * 0.02
    assert len(sent(b.receive(late.initiate(b, now).datagram, late, now))) == 64
    assert b.handshakes.half_open == len(strangers)
    connect(late, b, now + 30)  # they never confirmed


def test_confirmed_handshakes_are_no_load() -> None:
    b = Node()
    for number in range(Timing().under_load_half_open):
        _, result = connect(Node(), b, number * 0.02)
        result.keypair.confirmed = True
    assert b.handshakes.half_open == 0
    connect(Node(), b, 3.0)


def test_one_source_gets_five_handshakes_and_then_cookies() -> None:
    b = Node()
    members = [Node() for _ in range(8)]
    for member in members:
        member.source, member.endpoint = members[0].source, members[0].endpoint
    answers = [b.receive(one.initiate(b).datagram, one) for one in members]
    assert [len(sent(one)) for one in answers] == [188] * 5 + [64] * 3
    # Whoever forges that address has not used up what its owner gets by a cookie.
    members[7].receive(sent(answers[7]), b)
    connect(members[7], b)


def test_a_source_with_a_cookie_is_limited_too() -> None:
    b = Node(force_under_load=True)
    members = [Node() for _ in range(7)]
    results = []
    for member in members:
        member.source, member.endpoint = members[0].source, members[0].endpoint
        member.receive(sent(b.receive(member.initiate(b).datagram, member)), b)
        results.append(b.receive(member.initiate(b).datagram, member))
    assert [bool(one) for one in results] == [True] * 5 + [False] * 2
    assert b.drops.seen() == {"rate_limited": 2}
    assert b.handshakes.counters["limited"] == 2


def test_queries_are_limited_but_not_for_peers() -> None:
    a, b = Node(), Node()
    _, datagram = a.handshakes.query(0.0)
    for number in range(SourceLimiter.SIZE):
        source = b"q" + number.to_bytes(3, "big")
        assert b.handshakes.receive(datagram, source, a.endpoint, 0.0)
    assert b.receive(datagram, a) == []
    assert b.receive(datagram, a, known=True) != []


def test_the_table_of_pending_handshakes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder, "MAX_PENDING", 16)
    b, peer = Node(), Node()
    for _ in range(16):
        connect(Node(), b)
    stranger = Node()
    assert b.receive(stranger.initiate(b).datagram, stranger) == []
    assert b.drops.seen() == {"rate_limited": 1}
    established(b.receive(peer.initiate(b).datagram, peer, known=True))
    assert b.handshakes.half_open == 16


def test_confirmed_handshakes_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder, "MAX_PENDING", 4)
    b = Node()
    for _ in range(4):
        _, result = connect(Node(), b)
        result.keypair.confirmed = True
    connect(Node(), b)
    assert b.handshakes.half_open == 1


def test_cookies_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder, "_COOKIE_BURST", 2.0)
    a, b = Node(), Node(force_under_load=True)
    request = a.initiate(b).datagram
    assert [bool(b.receive(request, a)) for _ in range(3)] == [True, True, False]
    assert b.drops.seen() == {"rate_limited": 1}


def test_an_empty_budget_refuses_even_what_proved_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responder, "_DH_BURST", 0.5)
    a, b = Node(), Node()
    assert b.receive(a.initiate(b).datagram, a) == []
    assert b.drops.seen() == {"rate_limited": 1}


def test_requests_to_many_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "_MAX_INITIATIONS", 3)
    monkeypatch.setattr(initiator, "_MAX_CONTACTS", 2)
    a, peers = Node(), [Node() for _ in range(4)]
    requests = [a.initiate(peer).datagram for peer in peers]
    answers = [
        a.receive(sent(peer.receive(request, a)), peer)
        for peer, request in zip(peers, requests, strict=True)
    ]
    assert [bool(one) for one in answers] == [False, True, True, True]


def test_no_index_is_given_twice() -> None:
    asked: list[int] = []
    a = Handshakes(
        NodeKey.generate(),
        Keyring([SECRET], "tunmesh"),
        boot_id=bytes(8),
        suites=(AES256GCM,),
        hardware_aes=True,
        max_datagram=1400,
        wall_ns=lambda: 0,
        timing=Timing(),
        drops=Drops(),
        index_used=lambda index: len(asked) < 3 and not asked.append(index),  # type: ignore[func-returns-value]
    )
    index, _ = a.query(0.0)
    assert len(asked) == 3
    assert index not in asked


def test_own_requests_and_queries_are_bounded() -> None:
    a, b = Node(), Node()
    first = a.initiate(b)
    for _ in range(16):
        a.initiate(b)
    assert a.receive(sent(b.receive(first.datagram, a)), b) == []
    answers = [a.handshakes.query(0.0) for _ in range(257)]
    oldest, newest = answers[0][1], answers[-1][1]
    assert a.receive(sent(b.receive(oldest, a)), b) == []
    assert a.receive(sent(b.receive(newest, a)), b) != []
    assert a.receive(sent(b.receive(answers[5][1], a)), b, 15.0) == []
    assert a.drops.seen() == {"replay": 3}


# ------------------------------------------------------------------------- attackers


def test_outsiders_get_no_answer() -> None:
    member = Node()
    for outsider in (Node(secrets=(OTHER_SECRET,)), Node(mesh="other")):
        assert member.receive(outsider.handshakes.query(0.0)[1], outsider) == []
        assert member.receive(outsider.initiate(member).datagram, outsider) == []
    assert member.drops.seen() == {"auth_failed": 4}


def test_a_request_for_another_node_or_its_sender_is_dropped() -> None:
    a, b, c = Node(), Node(), Node()
    request = a.initiate(b).datagram
    assert c.receive(request, a) == []
    assert a.receive(request, b) == []
    answer = sent(b.receive(request, a))
    assert b.receive(answer, a) == []
    assert c.receive(answer, b) == []


def test_a_blocked_key_is_refused_on_both_sides() -> None:
    bad, good = Node(), Node()
    guard = Node(forbidden=frozenset({bad.static}))
    assert guard.receive(bad.initiate(guard).datagram, bad) == []
    assert guard.receive(sent(bad.receive(guard.initiate(bad).datagram, guard)), bad) == []
    connect(guard, good)
    assert guard.drops.seen() == {"auth_failed": 2}


def test_own_static_key_is_refused() -> None:
    key = NodeKey.generate()
    clone, node = Node(key=key), Node(key=key)
    with pytest.raises(LocalProtocolError):
        clone.initiate(node)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_lead_nowhere(point: bytes) -> None:
    a, b = Node(), Node()
    with pytest.raises(BadHandshake):
        a.handshakes.initiate(point, 0.0)
    # From a member, with MACs that are right.
    mesh = Keyring([SECRET], "tunmesh").current
    _, question = a.handshakes.query(0.0)
    reply = wire.encode_key_reply(int.from_bytes(question[4:8], "big"), point, 3)
    reply += cookie.mac(mesh.gate, question[-16:] + reply)
    assert a.receive(reply, b) == []
    request = a.initiate(b).datagram
    forged = request[:12] + point + request[44:172]
    forged += cookie.mac(cookie.mac1_key(mesh.gate, b.static), forged) + bytes(16)
    assert b.receive(forged, a) == []
    answer = sent(b.receive(request, a))
    forged = answer[:12] + point + answer[44:156]
    forged += cookie.mac(cookie.mac1_key(mesh.gate, a.static), forged) + bytes(16)
    assert a.receive(forged, b) == []
    established(a.receive(answer, b))
    assert a.drops.seen() == {"auth_failed": 2}
    assert b.drops.seen() == {"auth_failed": 1}


def messages() -> dict[str, tuple[Node, Node, bytes]]:
    """One message of each type that is welcome: who awaits it, from whom, its bytes."""
    result = {}
    a, b = Node(), Node()
    _, question = a.handshakes.query(0.0)
    result["KEYQ"] = (b, a, question)
    c = Node()
    _, question = c.handshakes.query(0.0)
    result["KEYR"] = (c, b, sent(b.receive(question, c)))
    result["INIT"] = (b, a, a.initiate(b).datagram)
    d = Node()
    result["RESP"] = (d, b, sent(b.receive(d.initiate(b).datagram, d)))
    loaded, e = Node(force_under_load=True), Node()
    result["COOKIE"] = (e, loaded, sent(loaded.receive(e.initiate(loaded).datagram, e)))
    return result


@pytest.mark.parametrize("name", ["KEYQ", "KEYR", "INIT", "RESP", "COOKIE"])
def test_no_changed_or_cut_message_has_an_effect(name: str) -> None:
    receiver, sender, message = messages()[name]
    counters = dict(receiver.handshakes.counters)
    half_open = receiver.handshakes.half_open
    changed = [message[:length] for length in range(len(message))]
    changed += [message + b"\0", message * 2]
    for position in range(len(message)):
        for flip in (0x01, 0x80):
            flipped = bytes((message[position] ^ flip,))
            changed.append(message[:position] + flipped + message[position + 1 :])
    asked = 0
    for data in changed:
        events = receiver.receive(data, sender)
        if name == "INIT" and data[:-16] == message[:-16] and len(data) == len(message):
            # mac2 is no part of the request: a wrong one asks for a right one.
            assert len(sent(events)) == 64
            asked += 1
        else:
            assert events == []
    assert asked == (32 if name == "INIT" else 0)
    assert sum(receiver.drops.values()) == len(changed) - asked
    assert set(receiver.drops.seen()) <= {"bad_packet", "auth_failed", "replay"}
    assert receiver.handshakes.half_open == half_open
    for counter in ("ok", "challenged", "queried", "limited"):
        assert receiver.handshakes.counters[counter] == counters[counter]
    # And the genuine one is as welcome as before.
    assert receiver.receive(message, sender) != []


NODES = (Node(), Node())


@settings(max_examples=100)
@given(st.binary(max_size=220), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7]), st.booleans())
def test_random_bytes_are_dropped(data: bytes, kind: int, fit: bool) -> None:
    sizes = {1: 204, 2: 188, 3: 64, 5: 96, 6: 80}
    node, stranger = NODES
    if fit and kind in sizes:
        data = data.ljust(sizes[kind], b"\x01")[: sizes[kind]]
    data = bytes((kind, 1)) + data[2:]
    before = sum(node.drops.values())
    assert node.receive(data, stranger) == []
    assert sum(node.drops.values()) == before + 1


def test_nothing_at_all_is_a_bad_packet() -> None:
    node = Node()
    assert node.receive(b"", node) == []
    assert node.drops.seen() == {"bad_packet": 1}


# ------------------------------------------- members that do not keep to the protocol


def forge_request(
    sender: Node, receiver: Node, /, suite: int = AES256GCM, **changes: object
) -> bytes:
    """An INIT whose payload says something else than it should."""
    mesh = Keyring([SECRET], "tunmesh").current
    header = wire.encode_init_header(suite, 77, mesh.psk_id)
    prologue = b"tunmesh/v1\0" + mesh.mesh_id + header
    handshake = noise.Initiator(
        suite, prologue, sender.key.x25519_private, receiver.static, mesh.psk
    )
    honest = payload.InitPayload(
        timestamp=60 * YEAR_NS,
        boot_id=sender.boot_id,
        node_id=bytes.fromhex(sender.key.node_id),
        challenge=payload.NO_CHALLENGE,
        highest_version=1,
        suites=0x8003,
        capabilities=0,
        max_datagram=1400,
    )
    body = payload.encode_init_payload(dataclasses.replace(honest, **changes))  # type: ignore[arg-type]
    message = header + handshake.write_request(body)
    return message + cookie.mac(cookie.mac1_key(mesh.gate, receiver.static), message) + bytes(16)


def forge_response(sender: Node, receiver: Node, request: bytes, /, **changes: object) -> bytes:
    """A RESP whose payload says something else than it should."""
    mesh = Keyring([SECRET], "tunmesh").current
    init = wire.decode_init_untrusted(request)
    prologue = b"tunmesh/v1\0" + mesh.mesh_id + request[:12]
    handshake = noise.Responder(
        init.suite, prologue, sender.key.x25519_private, sender.static, mesh.psk
    )
    handshake.read_static(init.noise)
    handshake.read_payload()
    honest = payload.RespPayload(
        sender=88,
        receiver=init.sender,
        boot_id=sender.boot_id,
        node_id=bytes.fromhex(sender.key.node_id),
        highest_version=1,
        suites=0x8003,
        capabilities=0,
        max_datagram=1400,
        observed=payload.encode_observed(receiver.endpoint),
    )
    said = dataclasses.replace(honest, **changes)  # type: ignore[arg-type]
    body, _ = handshake.write_response(payload.encode_resp_payload(said))
    message = wire.encode_resp_header(init.suite, 88, init.sender) + body
    return message + cookie.mac(cookie.mac1_key(mesh.gate, receiver.static), message) + bytes(16)


LIES: list[dict[str, Any]] = [{"node_id": bytes(16)}, {"highest_version": 0}]


@pytest.mark.parametrize("lie", LIES)
def test_a_request_that_lies_is_dropped(lie: dict[str, Any]) -> None:
    a, b = Node(), Node()
    assert b.receive(forge_request(a, b, **lie), a) == []
    assert b.drops.seen() == {"auth_failed": 1}
    established(b.receive(forge_request(a, b), a))


@pytest.mark.parametrize(
    "lie", [*LIES, {"sender": 89}, {"receiver": 1}, {"suites": 0x0003}, {"suites": 0x8002}]
)
def test_an_answer_that_lies_is_dropped(lie: dict[str, Any]) -> None:
    a, b = Node(), Node()
    request = a.initiate(b).datagram
    assert a.receive(forge_response(b, a, request, **lie), b) == []
    assert a.drops.seen() == {"auth_failed": 1}
    established(a.receive(forge_response(b, a, request), b))


def test_an_answer_with_an_unknown_kind_of_address_is_dropped() -> None:
    a, b = Node(), Node()
    request = a.initiate(b).datagram
    assert a.receive(forge_response(b, a, request, observed=b"\x09" * 19), b) == []
    assert a.drops.seen() == {"bad_packet": 1}


def test_a_worse_suite_than_both_allow_is_refused() -> None:
    a, b = Node(), Node()
    (answer,) = b.receive(forge_request(a, b, suite=CHACHA20POLY1305), a)
    assert isinstance(answer, Send)
    assert len(answer.datagram) == 64
    assert b.handshakes.half_open == 0


def test_a_key_reply_without_a_version_is_dropped() -> None:
    a, b = Node(), Node()
    gate = Keyring([SECRET], "tunmesh").current.gate
    _, question = a.handshakes.query(0.0)
    answer = bytearray(sent(b.receive(question, a))[:64])
    answer[40] = 0
    forged = bytes(answer) + cookie.mac(gate, question[-16:] + bytes(answer))
    assert a.receive(forged, b) == []
    assert a.drops.seen() == {"bad_packet": 1}


def test_an_offer_that_does_not_give_the_suite_is_refused() -> None:
    # A responder that lies about its offer: the initiator recomputes and does not believe it.
    a, b = Node(), Node()
    liar = Node(key=b.key, hardware_aes=False)
    request = a.initiate(b)
    hint = sent(liar.receive(request.datagram, a))
    assert a.receive(hint, b) == [Retry(b.static)]
    again = a.initiate(b)
    assert again.suite == CHACHA20POLY1305
    # The genuine one allows AES and so refuses the worse suite, saying why.
    answer = b.receive(again.datagram, a)
    assert len(sent(answer)) == 64
    assert a.receive(sent(answer), b, 1.0) == [Retry(b.static)]
    assert a.initiate(b, 1.0).suite == AES256GCM


def test_a_global_budget_bounds_the_costly_part() -> None:
    b = Node()
    asked = done = 0
    for _ in range(60):
        a = Node()
        answers = b.receive(a.initiate(b).datagram, a)
        if len(sent(answers)) == 64:
            asked += 1
        else:
            done += 1
    assert done == 51  # under half of the burst of 100 is left: load
    assert asked == 9


# ------------------------------------------------------------------- several secrets

NEW_SECRET = b"the secret that comes after"
RING = (NEW_SECRET, SECRET)


def psk_ids(*secrets: bytes) -> list[bytes]:
    return [keys.psk_id for keys in Keyring(secrets, "tunmesh").all]


def test_requests_use_the_first_secret_and_then_the_others_in_turn() -> None:
    a, b = Node(secrets=RING), Node(secrets=RING)
    used = [wire.decode_init_untrusted(a.initiate(b).datagram).psk_id for _ in range(4)]
    assert used == psk_ids(*RING) * 2


def test_a_peer_without_the_first_secret_is_reached_by_the_second_attempt() -> None:
    a, b = Node(secrets=RING), Node()
    assert b.receive(a.initiate(b).datagram, a) == []
    ours, theirs = connect(a, b)
    assert [ours.keypair.psk_id, theirs.keypair.psk_id] == psk_ids(SECRET) * 2


def test_after_a_session_the_first_secret_is_tried_again() -> None:
    a, b = Node(secrets=RING), Node()
    a.initiate(b)
    connect(a, b)
    b.handshakes.set_keyring(Keyring(RING, "tunmesh"))
    ours, theirs = connect(a, b, now=1.0)
    assert [ours.keypair.psk_id, theirs.keypair.psk_id] == psk_ids(NEW_SECRET) * 2


def test_a_retry_uses_the_secret_that_the_peer_has_shown() -> None:
    a, b = Node(secrets=RING), Node(force_under_load=True)
    a.initiate(b)
    asked = a.receive(sent(b.receive(a.initiate(b).datagram, a)), b)
    assert [type(event) for event in asked] == [Retry]
    ours, _ = connect(a, b)
    assert ours.keypair.psk_id == psk_ids(SECRET)[0]


def test_key_queries_ask_under_each_secret_in_turn() -> None:
    a, b = Node(secrets=RING), Node()
    assert b.receive(a.handshakes.query(0.0, 0)[1], a) == []
    _, datagram = a.handshakes.query(0.0, 1)
    (learned,) = a.receive(sent(b.receive(datagram, a)), b)
    assert isinstance(learned, KeyLearned)
    assert learned.psk_id == psk_ids(SECRET)[0]
    ours, _ = connect(a, b)  # the first request is under the secret that b has
    assert ours.keypair.psk_id == learned.psk_id


def test_a_retired_secret_is_not_accepted_nor_are_answers_to_requests_under_it() -> None:
    a, b = Node(), Node()
    answer = sent(b.receive(a.initiate(b).datagram, a))
    a.handshakes.set_keyring(Keyring([NEW_SECRET], "tunmesh"))
    assert a.receive(answer, b) == []
    assert a.receive(b.initiate(a).datagram, b) == []
    assert a.drops.seen() == {"replay": 1, "auth_failed": 1}


def test_other_suites_are_offered_from_now_on() -> None:
    a, b = Node(), Node()
    connect(a, b)
    b.handshakes.set_suites([CHACHA20POLY1305])
    asked = a.receive(sent(b.receive(a.initiate(b, 1.0).datagram, a, 1.0)), b, 1.0)
    assert [type(event) for event in asked] == [Retry]  # it still expected the former offer
    ours, _ = connect(a, b, 1.0)
    assert ours.keypair.suite == CHACHA20POLY1305
