"""What ``tunmesh capture`` is sent: packets as they were seen, many at a time. Only data here."""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import msgspec

#: Before each message of a stream.
LENGTH = struct.Struct("!I")

Point: TypeAlias = Literal["inside", "outside", "dropped"]
#: Where packets are seen: from the device, from the mesh, and wherever they are dropped.
POINTS: tuple[Point, ...] = ("inside", "outside", "dropped")


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One frame.

    Attributes:
        point: Where it was seen.
        time_ns: When, in nanoseconds since 1970.
        incoming: Whether it came from the mesh.
        comment: What became of it.
        length: Its bytes; more than `frame` has, if it was cut.
        frame: A `virtio_net_hdr` and an IP packet.
    """

    point: Point
    time_ns: int
    incoming: bool
    comment: str
    length: int
    frame: bytes


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What was seen since the last one.

    Attributes:
        records: The frames, oldest first.
        lost: So far, by the point, frames for which there was no room.
    """

    records: list[Record]
    lost: dict[str, int]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    """The bytes of a batch."""
    return _ENCODER.encode(batch)


def decode_batch(data: bytes) -> Batch:
    """A batch.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    return _DECODER.decode(data)
