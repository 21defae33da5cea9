"""What directories tell each other, inside a session's reliable channel.

``Digest`` says in a few bytes what one holds. Who holds something else answers with a ``Listing``,
or with ``Buckets`` where a listing would be long, and the other side lists the buckets that differ.
Who sees in a listing what it lacks asks with ``Want`` and gets ``Records``. So a record travels to
a node once, whoever announced it. The only records sent unasked are a node's own.

Ages say how long ago a node was last known alive: whole seconds in one byte each, or `NO_AGE`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from tunmesh.errors import BadPacket
from tunmesh.membership.records import SUMMARY

#: Bytes of the longest message.
MAX_MESSAGE = 32 * 1024
#: Records are told apart by the first byte of their node ids where a digest is not enough.
BUCKETS = 256
#: The age of a node that need not be told: gone, or not heard of for long.
NO_AGE = 255
#: Bytes of a node id in a message.
NODE_ID = 16

_Seconds = Annotated[int, Meta(ge=0, lt=2**31)]


class Records(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """Records, in answer to `Want`, or one's own.

    Attributes:
        tokens: Their signed forms.
        ages: For each, how many seconds ago the node was known alive.
        known: For each, for how many seconds the record has been known.
    """

    tokens: list[str]
    ages: list[_Seconds]
    known: list[_Seconds]


class Digest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """All that one holds.

    Attributes:
        fingerprint: Exclusive or of the records' fingerprints.
        count: Records.
        ages: One byte for each, in the order of the node ids.
    """

    fingerprint: Annotated[bytes, Meta(min_length=16, max_length=16)]
    count: Annotated[int, Meta(ge=0, lt=2**31)]
    ages: bytes


class Buckets(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """All that one holds, in parts.

    Attributes:
        fingerprints: Eight bytes for each bucket.
        counts: Two bytes for each bucket: records in it.
        ages: One byte for each record, in the order of the node ids.
    """

    fingerprints: Annotated[bytes, Meta(min_length=8 * BUCKETS, max_length=8 * BUCKETS)]
    counts: Annotated[bytes, Meta(min_length=2 * BUCKETS, max_length=2 * BUCKETS)]
    ages: bytes


class Listing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """Some of what one holds.

    Attributes:
        summaries: `SUMMARY` bytes for each record.
        complete: The buckets of which the listing names everything, ascending. The receiver
            answers with what is missing there.
        ages: One byte for each record, or nothing.
    """

    summaries: bytes
    complete: Annotated[bytes, Meta(max_length=BUCKETS)] = b""
    ages: bytes = b""


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w"):
    """Ask for records.

    Attributes:
        node_ids: `NODE_ID` bytes for each.
    """

    node_ids: bytes


Message: TypeAlias = Records | Digest | Buckets | Listing | Want

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    return _ENCODER.encode(message)


def decode_message_untrusted(data: bytes) -> Message:
    """A message.

    Raises:
        BadPacket: The bytes are none, or too many, or its parts do not fit each other.
    """
    if len(data) > MAX_MESSAGE:
        raise BadPacket("membership message too long")
    try:
        message = _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadPacket(f"membership message: {error}") from error
    if not _consistent(message):
        raise BadPacket("membership message whose parts do not fit each other")
    return message


def _consistent(message: Message) -> bool:
    if isinstance(message, Records):
        return len(message.tokens) == len(message.ages) == len(message.known)
    if isinstance(message, Digest):
        return len(message.ages) == message.count
    if isinstance(message, Buckets):
        return len(message.ages) == sum(unpack_counts(message.counts))
    if isinstance(message, Listing):
        records, rest = divmod(len(message.summaries), SUMMARY)
        return rest == 0 and len(message.ages) in (0, records)
    return len(message.node_ids) % NODE_ID == 0


_COUNTS = struct.Struct(f">{BUCKETS}H")


def pack_counts(counts: Sequence[int]) -> bytes:
    """`Buckets.counts` of numbers."""
    return _COUNTS.pack(*counts)


def unpack_counts(counts: bytes) -> tuple[int, ...]:
    """The numbers of `Buckets.counts`."""
    return _COUNTS.unpack(counts)
