"""Questions about packets, from one node to another, and the judgement of the forwarding table."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.dataplane.verdicts import Verdicts
from tunmesh.errors import BadPacket
from tunmesh.forwarding import Forwarding, Holding
from tunmesh.membership.messages import decode_message_untrusted
from tunmesh.mesh.explaining import (
    MARK,
    Answer,
    Explaining,
    Judgement,
    Question,
    Spot,
    decode_untrusted,
    encode,
)

HERE, THERE, BEHIND = "0" * 32, "a" * 32, "b" * 32
QUESTION = Question(7, "outside", bytes(4), b"\x0a\x2a\x01\x02")


def packed(text: str) -> bytes:
    return ip_address(text).packed


class Ends:
    """Two nodes that hand their messages to each other, one at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.forwards = True
        self.verdicts = Verdicts()
        self.sent: list[tuple[str, str, bytes]] = []
        nets = tuple(map(ip_network, ("10.42.0.0/16", "fd42::/48")))
        held = {
            HERE: Holding(HERE, (ip_address("10.42.1.1"),), ()),
            THERE: Holding(THERE, (ip_address("10.42.1.2"),), (("192.168.9.0/24", 10),)),
            BEHIND: Holding(BEHIND, (ip_address("10.42.1.3"),), (("192.168.9.0/24", 20),)),
        }
        self.nodes: dict[str, Explaining] = {}
        for own, address in ((HERE, "10.42.1.1/24"), (THERE, "10.42.1.2/24")):
            forwarding = Forwarding(
                networks=nets,
                accept_subnets=(ip_network("192.168.0.0/16"),),
                broadcast=True,
                holdings=lambda own=own: [h for node, h in held.items() if node != own],  # type: ignore[misc]
                node_id=own,
                invalidated=lambda: None,
            )
            subnets = [ip_network("192.168.9.0/24")] if own == THERE else []
            forwarding.set_own([ip_interface(address)], subnets)
            self.nodes[own] = Explaining(
                forwarding,
                lambda _version: self.forwards,
                lambda peer, data, _now, own=own: self.sent.append((own, peer, data)),  # type: ignore[misc]
                self.verdicts,
                0.0,
            )

    def carry(self) -> None:
        while self.sent:
            source, target, data = self.sent.pop(0)
            self.nodes[target].receive(source, data, self.now)


@pytest.fixture
def ends() -> Ends:
    return Ends()


def ask(ends: Ends, source: str, destination: str) -> list[Answer]:
    answers: list[Answer] = []
    ends.nodes[HERE].ask(
        THERE, "outside", packed(source), packed(destination), ends.now, answers.append
    )
    ends.carry()
    return answers


def test_the_other_node_says_what_it_would_do(ends: Ends) -> None:
    (answer,) = ask(ends, "10.42.1.1", "10.42.1.2")
    assert answer.judgement == Judgement(
        "outside",
        "",
        Spot("address", "10.42.1.1/32", (HERE,)),
        Spot("own_address", "10.42.1.2/32"),
    )
    assert answer.reply is not None
    assert (answer.reply.reason, answer.reply.peers) == ("", (HERE,))


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        ("10.42.1.9", "10.42.1.2", "spoofed_source"),
        ("10.42.1.1", "10.42.1.3", "misrouted"),
        ("10.42.1.1", "8.8.8.8", "misrouted"),
    ],
)
def test_and_why_it_would_drop_it(ends: Ends, source: str, destination: str, reason: str) -> None:
    (answer,) = ask(ends, source, destination)
    assert answer.judgement.reason == reason


@pytest.mark.parametrize("forwards", [True, False])
def test_a_host_that_has_to_forward_says_whether_it_does(ends: Ends, forwards: bool) -> None:
    ends.forwards = forwards
    (answer,) = ask(ends, "10.42.1.1", "192.168.9.5")
    assert answer.judgement.forwarding is forwards
    assert answer.judgement.destination == Spot("own_subnet", "192.168.9.0/24")


def test_policies_that_decide_by_ports_are_spoken_of(ends: Ends) -> None:
    ends.verdicts.add(lambda _flow, _direction: ("denied", 1.0))
    (answer,) = ask(ends, "10.42.1.1", "10.42.1.2")
    assert (answer.judgement.reason, answer.judgement.judged) == ("", True)


def test_what_its_own_host_would_send(ends: Ends) -> None:
    answers: list[Answer] = []
    addresses = packed("10.42.1.2"), packed("10.42.1.1")
    ends.nodes[HERE].ask(THERE, "inside", *addresses, 0.0, answers.append)
    ends.carry()
    assert answers[0].judgement.peers == (HERE,)
    assert answers[0].reply is None


def test_an_answer_comes_once_and_only_from_who_was_asked(ends: Ends) -> None:
    answers: list[Answer] = []
    here = ends.nodes[HERE]
    number = here.ask(THERE, "outside", bytes(4), bytes(4), 0.0, answers.append)
    forged = encode(Answer(number, Judgement("outside", "", Spot("x"), Spot("y"))))
    here.receive(BEHIND, forged, 0.0)
    assert answers == []
    here.receive(THERE, forged, 0.0)
    here.receive(THERE, forged, 0.0)
    assert len(answers) == 1


def test_an_answer_that_comes_too_late_is_ignored(ends: Ends) -> None:
    answers: list[Answer] = []
    here = ends.nodes[HERE]
    here.forget(here.ask(THERE, "outside", bytes(4), bytes(4), 0.0, answers.append))
    ends.carry()
    assert answers == []


def test_a_flood_of_questions_is_answered_in_part(ends: Ends) -> None:
    for _ in range(1000):
        ends.nodes[HERE].receive(THERE, encode(QUESTION), 0.0)
    assert len(ends.sent) == 40
    ends.nodes[HERE].receive(THERE, encode(QUESTION), 1.0)
    assert len(ends.sent) == 41


def test_questions_without_end_are_forgotten_oldest_first(ends: Ends) -> None:
    for _ in range(300):
        ends.nodes[HERE].ask(THERE, "outside", bytes(4), bytes(4), 0.0, lambda _: None)
    assert len(ends.nodes[HERE]._pending) == 256
    assert min(ends.nodes[HERE]._pending) == 300 - 256


def test_an_older_node_counts_a_question_and_goes_on() -> None:
    with pytest.raises(BadPacket):
        decode_message_untrusted(encode(QUESTION))


def test_a_newer_node_may_say_more() -> None:
    array = msgspec.msgpack.decode(msgspec.msgpack.encode(QUESTION))
    longer = bytes((MARK,)) + msgspec.msgpack.encode([*array, "more"])
    assert decode_untrusted(longer) == QUESTION


@given(st.binary(max_size=80))
def test_garbage_is_a_bad_packet(data: bytes) -> None:
    try:
        decode_untrusted(bytes((MARK,)) + data)
    except BadPacket:
        return


@pytest.mark.parametrize("lengths", [(4, 16), (5, 5), (16, 4)])
def test_addresses_have_four_or_sixteen_bytes(lengths: tuple[int, int]) -> None:
    source, destination = map(bytes, lengths)
    with pytest.raises(BadPacket):
        decode_untrusted(encode(Question(1, "outside", source, destination)))


def texts() -> Iterator[str]:
    yield from ("10.42.1.1", "10.42.1.2", "10.42.1.3", "10.42.7.7", "192.168.9.9", "8.8.8.8")
    yield from ("10.42.255.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0")


@given(st.sampled_from(list(texts())), st.sampled_from(list(texts())))
def test_a_judgement_is_that_of_the_forwarding_table(source: str, destination: str) -> None:
    ends = Ends()
    for node in ends.nodes.values():
        fib = node._forwarding.fib()
        pair = packed(source), packed(destination)
        verdict, found = node.inside(*pair), fib.inside(*pair)
        assert (verdict.reason or verdict.peers) == found
        assert node.outside(BEHIND, *pair).reason == (fib.outside(BEHIND, *pair) or "")
        if verdict.peers:  # what is said of the destination leads to the same nodes
            assert verdict.destination.peers == verdict.peers
