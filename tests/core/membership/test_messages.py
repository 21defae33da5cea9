from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import BadPacket
from tunmesh.membership.messages import (
    BUCKETS,
    MAX_MESSAGE,
    Buckets,
    Digest,
    Listing,
    Message,
    Records,
    Want,
    decode_message_untrusted,
    encode_message,
    pack_counts,
    unpack_counts,
)

MESSAGES: list[Message] = [
    Records(["a", "b"], [1, 2], [3, 4]),
    Digest(bytes(16), 3, bytes(3)),
    Buckets(bytes(8 * BUCKETS), pack_counts([1] * BUCKETS), bytes(BUCKETS)),
    Listing(bytes(64), b"\x00\x01", bytes(2)),
    Listing(bytes(64)),
    Want(bytes(32)),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trip(message: Message) -> None:
    assert decode_message_untrusted(encode_message(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Records(["a"], [], [1]),
        Records(["a"], [1], []),
        Records(["a"], [-1], [1]),
        Records(["a"], [1], [2**31]),
        Digest(bytes(15), 0, b""),
        Digest(bytes(16), 2, bytes(3)),
        Digest(bytes(16), -1, b""),
        Buckets(bytes(8), pack_counts([0] * BUCKETS), b""),
        Buckets(bytes(8 * BUCKETS), bytes(4), b""),
        Buckets(bytes(8 * BUCKETS), pack_counts([1] * BUCKETS), b""),
        Listing(bytes(33)),
        Listing(bytes(64), b"", bytes(1)),
        Listing(b"", bytes(BUCKETS + 1)),
        Want(bytes(17)),
        Want(bytes(MAX_MESSAGE)),
    ],
)
def test_parts_that_do_not_fit_are_refused(message: Message) -> None:
    with pytest.raises(BadPacket):
        decode_message_untrusted(encode_message(message))


@pytest.mark.parametrize(
    "value", [None, [], ["x"], ["d"], ["w", "text"], ["w", b"", b""], {"type": "w"}, ["r", 1, 2, 3]]
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(BadPacket):
        decode_message_untrusted(msgspec.msgpack.encode(value))


def test_deep_values_are_refused() -> None:
    with pytest.raises(BadPacket):
        decode_message_untrusted(b"\x92\xa1r" + b"\x91" * 20_000)


@given(st.binary(max_size=200) | st.sampled_from(MESSAGES).map(encode_message), st.data())
def test_random_bytes_raise_only_bad_packet(data: bytes, draw: st.DataObject) -> None:
    mutable = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 3))):
        if mutable:
            position = draw.draw(st.integers(0, len(mutable) - 1))
            mutable[position] = draw.draw(st.integers(0, 255))
    try:
        decode_message_untrusted(bytes(mutable))
    except BadPacket:
        return


def test_counts() -> None:
    counts = [0, 1, 65_535] + [7] * (BUCKETS - 3)
    assert list(unpack_counts(pack_counts(counts))) == counts
