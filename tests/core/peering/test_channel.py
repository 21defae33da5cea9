"""The reliable channel over a network that drops, repeats and reorders as it likes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.peering.services import MiddleRandom
from tunmesh.errors import BadPacket
from tunmesh.peering.channel import LARGEST_MESSAGE, Channel
from tunmesh.peering.schedule import retry_delay

FRAGMENT = 1100
HEAD = 13


def channel(seed: int = 0) -> Channel:
    return Channel(random.Random(seed))


def payload(number: int, size: int) -> bytes:
    return number.to_bytes(4, "big") + random.Random(number).randbytes(size)


class Pair:
    """Two channels, and what each delivered; time passes from deadline to deadline."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ends = (channel(1), channel(2))
        self.delivered: tuple[list[bytes], list[bytes]] = ([], [])

    def carry(self, end: int, bodies: list[bytes]) -> None:
        """Let bodies arrive at an end."""
        for body in bodies:
            message = self.ends[end].receive(body, self.now)
            if message is not None:
                self.delivered[end].append(message)

    def step(self) -> bool:
        """Go to the next deadline; whether there is one."""
        deadline = min(end.next_deadline() for end in self.ends)
        self.now = max(self.now, deadline) if deadline < float("inf") else self.now
        return deadline < float("inf")

    def settle(self) -> None:
        """Let everything through until nothing is to be said."""
        while self.step():
            for end in (0, 1):
                self.carry(1 - end, self.ends[end].bodies_to_send(self.now))


def test_a_message_and_its_acknowledgement() -> None:
    here, there = channel(1), channel(2)
    here.send(b"hello", 10.0)
    assert here.backlog == 1
    assert here.next_deadline() == 10.0
    (body,) = here.bodies_to_send(10.0)
    epoch = body[1:5]
    assert body == b"\x01" + epoch + bytes(4) + b"\0\0" + b"\0\1" + b"hello"
    assert there.receive(body, 10.1) == b"hello"
    assert there.next_deadline() == float("-inf")
    (ack,) = there.bodies_to_send(10.1)
    assert ack == b"\x02" + body[1:HEAD]
    assert there.next_deadline() == float("inf")
    assert here.receive(ack, 10.2) is None
    assert here.backlog == 0
    assert here.next_deadline() == float("inf")
    assert here.bodies_to_send(99.0) == []


def test_nothing_is_acknowledged_twice_unasked() -> None:
    here, there = channel(1), channel(2)
    here.send(b"hello", 0.0)
    (body,) = here.bodies_to_send(0.0)
    assert [there.receive(body, 0.0) for _ in range(3)] == [b"hello", None, None]
    assert len(there.bodies_to_send(0.0)) == 3
    assert there.bodies_to_send(0.0) == []


def test_what_is_not_acknowledged_is_sent_again_ever_more_slowly() -> None:
    here = Channel(MiddleRandom(1))
    here.send(b"hello", 0.0)
    times = []
    for _ in range(14):
        now = max(here.next_deadline(), 0.0)
        times.append(now)
        assert len(here.bodies_to_send(now)) == 1
        assert here.bodies_to_send(now) == []
    assert [round(after - before, 3) for before, after in pairwise(times)] == [
        0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 5.0, 5.0,
    ]  # fmt: skip


@given(st.integers(0, 40), st.integers(0, 9))
def test_retry_delays(attempt: int, seed: int) -> None:
    delay = retry_delay(attempt, random.Random(seed))
    middle = retry_delay(attempt, MiddleRandom(1))
    assert 0.8 * middle <= delay <= 1.2 * middle
    assert middle <= 5.0
    assert (middle == 0.0) == (attempt == 0)


@given(
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.integers(0, 3000), max_size=6),
    st.randoms(use_true_random=False),
    st.integers(0, 9),
)
def test_every_message_is_delivered_exactly_once(
    ours: list[int], theirs: list[int], rng: random.Random, loss: int
) -> None:
    pair = Pair()
    sent = (
        [payload(number, size) for number, size in enumerate(theirs, 1000)],
        [payload(number, size) for number, size in enumerate(ours)],
    )
    for end in (0, 1):
        for message in sent[1 - end]:
            pair.ends[end].send(message, pair.now)
    wire: list[tuple[int, bytes]] = []
    for _ in range(60):  # what was sent arrives later, or again, or never
        pair.step()
        for end in (0, 1):
            for body in pair.ends[end].bodies_to_send(pair.now):
                if rng.randrange(10) >= loss:
                    wire += [(1 - end, body)] * rng.choice((1, 1, 2))
        rng.shuffle(wire)
        for end, body in wire[: len(wire) // 2]:
            pair.carry(end, [body])
        del wire[: len(wire) // 2]
    pair.settle()
    for end, body in wire:  # the last stragglers
        pair.carry(end, [body])
    for end in (0, 1):
        assert sorted(pair.delivered[end]) == sorted(sent[end])
        assert pair.ends[end].backlog == 0
        assert pair.ends[end]._partial == {}


def test_fragments_of_what_comes_whole_after_all_are_forgotten() -> None:
    here, there = channel(1), channel(2)
    message = random.Random(1).randbytes(2 * FRAGMENT)
    here.send(message, 0.0)
    (whole,) = here.bodies_to_send(0.0)
    first, second = here.bodies_to_send(here.next_deadline())
    assert there.receive(first, 1.0) is None
    assert there.receive(whole, 1.0) == message
    assert there.receive(second, 1.0) is None
    assert there._partial == {}


@pytest.mark.parametrize("size", [FRAGMENT, FRAGMENT + 1, 2 * FRAGMENT, 5000, LARGEST_MESSAGE])
def test_a_message_goes_whole_first_then_in_fragments(size: int) -> None:
    here, there = channel(1), channel(2)
    message = random.Random(1).randbytes(size)
    here.send(message, 0.0)
    (whole,) = here.bodies_to_send(0.0)
    assert whole[HEAD:] == message
    now = here.next_deadline()
    pieces = here.bodies_to_send(now)
    assert len(pieces) == -(-size // FRAGMENT)
    assert all(len(piece) <= HEAD + FRAGMENT for piece in pieces)
    assert b"".join(piece[HEAD:] for piece in pieces) == message
    received = [there.receive(piece, now) for piece in reversed(pieces)]
    assert received[:-1] == [None] * (len(pieces) - 1)
    assert received[-1] == message
    assert there.receive(whole, now) is None


def test_only_fragments_that_are_missing_are_sent_again() -> None:
    here, there = channel(1), channel(2)
    here.send(bytes(5 * FRAGMENT), 0.0)
    here.bodies_to_send(0.0)
    pieces = here.bodies_to_send(here.next_deadline())
    for number in (0, 1, 3):
        assert there.receive(pieces[number], 1.0) is None
    for ack in there.bodies_to_send(1.0):
        here.receive(ack, 1.0)
    again = here.bodies_to_send(here.next_deadline())
    assert again == [pieces[2], pieces[4]]
    assert [there.receive(piece, 2.0) for piece in again] == [None, bytes(5 * FRAGMENT)]
    for ack in there.bodies_to_send(2.0):
        here.receive(ack, 2.0)
    assert here.backlog == 0


def test_a_late_acknowledgement_of_the_whole_spares_the_fragments() -> None:
    here, there = channel(1), channel(2)
    here.send(bytes(5000), 0.0)
    (whole,) = here.bodies_to_send(0.0)
    here.bodies_to_send(here.next_deadline())
    there.receive(whole, 1.0)
    (ack,) = there.bodies_to_send(1.0)
    here.receive(ack, 1.0)
    assert here.backlog == 0


def test_an_acknowledged_fragment_means_nothing_before_there_are_any() -> None:
    here = channel(1)
    here.send(bytes(5000), 0.0)
    (whole,) = here.bodies_to_send(0.0)
    here.receive(b"\x02" + whole[1:9] + b"\0\0" + b"\0\5", 0.0)
    assert here.backlog == 1


@pytest.mark.parametrize("at", [1, 5], ids=["epoch", "id"])
def test_an_acknowledgement_of_something_else_is_ignored(at: int) -> None:
    here = channel(1)
    here.send(b"hello", 0.0)
    (body,) = here.bodies_to_send(0.0)
    ack = bytearray(b"\x02" + body[1:HEAD])
    ack[at] ^= 1
    here.receive(bytes(ack), 0.0)
    assert here.backlog == 1


def test_a_restarted_sender_is_believed_anew() -> None:
    here, there = channel(1), channel(2)
    here.send(b"before", 0.0)
    (before,) = here.bodies_to_send(0.0)
    here.restart()
    assert here.backlog == 0
    here.send(b"after", 0.0)
    (after,) = here.bodies_to_send(0.0)
    assert before[1:5] != after[1:5]
    assert before[5:9] == after[5:9]
    assert there.receive(before, 0.0) == b"before"
    assert there.receive(after, 0.0) == b"after"
    assert there.receive(after, 0.0) is None


def test_fragments_of_two_epochs_do_not_mix() -> None:
    here, there = channel(1), channel(2)
    pieces = []
    for message in (b"1" * 2000, b"2" * 2000):
        here.send(message, 0.0)
        here.bodies_to_send(0.0)
        pieces.append(here.bodies_to_send(here.next_deadline()))
        here.restart()
    assert there.receive(pieces[0][0], 1.0) is None
    assert there.receive(pieces[1][1], 1.0) is None
    assert there.receive(pieces[1][0], 1.0) == b"2" * 2000


def test_a_window_of_messages_is_under_way_and_the_rest_waits() -> None:
    here, there = channel(1), channel(2)
    messages = [payload(number, 10) for number in range(100)]
    for message in messages:
        here.send(message, 0.0)
    first = here.bodies_to_send(0.0)
    assert [body[HEAD:] for body in first] == messages[:64]
    assert here.backlog == 100
    there.receive(first[5], 0.0)
    (ack,) = there.bodies_to_send(0.0)
    here.receive(ack, 0.0)
    assert [body[HEAD:] for body in here.bodies_to_send(0.0)] == [messages[64]]


# Bounds


def test_messages_that_wait_are_bounded() -> None:
    here = channel(1)
    for number in range(64 + 1024 + 10):
        here.send(payload(number, 0), 0.0)
    assert here.backlog == 64 + 1024
    assert here._waiting[0] == payload(74, 0)


def test_a_message_that_is_too_large_is_refused() -> None:
    here = channel(1)
    with pytest.raises(ValueError, match="49153 bytes"):
        here.send(bytes(LARGEST_MESSAGE + 1), 0.0)
    assert here.backlog == 0


def message_body(number: int, index: int, count: int, body: bytes = b"", *, kind: int = 1) -> bytes:
    head = kind.to_bytes(1, "big") + bytes(4) + number.to_bytes(4, "big")
    return head + index.to_bytes(2, "big") + count.to_bytes(2, "big") + body


def test_incomplete_messages_are_bounded() -> None:
    there = channel(2)
    for number in range(20):
        assert there.receive(message_body(number, 0, 2, b"first "), 0.0) is None
    assert len(there._partial) == 16
    assert there.receive(message_body(19, 1, 2, b"second"), 0.0) == b"first second"
    assert there.receive(message_body(0, 1, 2, b"second"), 0.0) is None


def test_what_was_delivered_is_remembered_to_a_bound() -> None:
    there = channel(2)
    for number in range(5000):
        assert there.receive(message_body(number, 0, 1), 0.0) == b""
    assert len(there._delivered) == 4096
    assert there.receive(message_body(4999, 0, 1), 0.0) is None
    assert there.receive(message_body(904, 0, 1), 0.0) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        message_body(1, 0, 1)[:-1],
        message_body(1, 0, 1, kind=0),
        message_body(1, 0, 1, kind=3),
        message_body(1, 0, 0),
        message_body(1, 1, 1),
        message_body(1, 44, 44),
        message_body(1, 0, 46),
        message_body(1, 0, 0xFFFF),
        message_body(1, 0, 1, bytes(LARGEST_MESSAGE + 1)),
        message_body(1, 0, 2, bytes(FRAGMENT + 1)),
    ],
)
def test_malformed_items(body: bytes) -> None:
    there = channel(2)
    with pytest.raises(BadPacket):
        there.receive(body, 0.0)
    assert there.bodies_to_send(0.0) == []


def test_acknowledgements_are_bounded_and_come_with_the_repetition() -> None:
    there = channel(2)
    for number in range(1100):
        assert there.receive(message_body(number, 0, 1, b"x"), 0.0) == b"x"
    assert len(there.bodies_to_send(0.0)) == 1024
    assert there.receive(message_body(1099, 0, 1, b"x"), 0.0) is None
    assert there.bodies_to_send(0.0) == [message_body(1099, 0, 1, kind=2)]


def test_the_largest_message_in_one_piece_is_accepted() -> None:
    body = message_body(1, 0, 1, bytes(LARGEST_MESSAGE))
    assert channel(2).receive(body, 0.0) == bytes(LARGEST_MESSAGE)


def test_the_most_fragments_are_accepted() -> None:
    there = channel(2)
    count = -(-LARGEST_MESSAGE // FRAGMENT)
    received = [there.receive(message_body(1, n, count, b"x"), 0.0) for n in range(count)]
    assert received == [None] * (count - 1) + [b"x" * count]


bodies = st.one_of(
    st.binary(max_size=30),
    st.builds(
        message_body,
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(0, 50),
        st.binary(max_size=5),
        kind=st.integers(1, 2),
    ),
)


@given(st.lists(bodies, max_size=60))
def test_random_bytes_raise_only_bad_packet(received: list[bytes]) -> None:
    there = channel(2)
    there.send(bytes(2000), 0.0)
    for body in received:
        try:
            there.receive(body, 0.0)
        except BadPacket:
            continue
        assert len(there._partial) <= 16
    there.bodies_to_send(0.0)
