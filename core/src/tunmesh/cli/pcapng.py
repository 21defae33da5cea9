"""Writes pcapng (draft-ietf-opsawg-pcapng), as much of it as a capture here needs.

::

    block    type u32 | total length u32 | body, padded to 4 | total length u32
    option   code u16 | length u16 | value, padded to 4; the last has code 0

Contains no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

_BLOCK = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_OPTION = struct.Struct("<HH")
_SECTION = struct.Struct("<IHHq")  # byte-order magic, version, length of the section
_INTERFACE = struct.Struct("<HHI")  # link type, reserved, snap length
_PACKET = struct.Struct("<IIIII")  # interface, time (high, low), captured length, original length
_STATISTICS = struct.Struct("<III")  # interface, time (high, low)
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

_SHB, _IDB, _ISB, _EPB = 0x0A0D0D0A, 1, 5, 6
_MAGIC = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
#: LINKTYPE_RAW: packets begin with the header of IPv4 or IPv6.
LINKTYPE_RAW = 101

_END, _COMMENT = 0, 1
_SHB_APPLICATION = 4
_IF_NAME, _IF_DESCRIPTION, _IF_RESOLUTION = 2, 3, 9
_EPB_FLAGS = 2
_ISB_RECEIVED, _ISB_DROPPED = 4, 5
#: Times are in units of 10^-9 s.
_NANOSECONDS = bytes((9,))
_INBOUND, _OUTBOUND = 1, 2
_LONGEST_OPTION = 0xFFFF


def section(application: str, interfaces: Iterable[tuple[str, str]], snap: int) -> bytes:
    """What a file begins with.

    Args:
        application: What writes it.
        interfaces: Their names and descriptions; packets name them by their places here.
        snap: Bytes of a packet that are kept at most.
    """
    head = _SECTION.pack(_MAGIC, 1, 0, _UNKNOWN_LENGTH)
    blocks = [_block(_SHB, head, [(_SHB_APPLICATION, application.encode())])]
    for name, description in interfaces:
        options = [
            (_IF_NAME, name.encode()),
            (_IF_DESCRIPTION, description.encode()),
            (_IF_RESOLUTION, _NANOSECONDS),
        ]
        blocks.append(_block(_IDB, _INTERFACE.pack(LINKTYPE_RAW, 0, snap), options))
    return b"".join(blocks)


def packet(
    interface: int, time_ns: int, data: bytes, length: int, comment: str, *, incoming: bool
) -> bytes:
    """One packet.

    Args:
        interface: Its place in the section.
        time_ns: Nanoseconds since 1970.
        data: What was kept of it.
        length: What it had.
        comment: Shown with it.
        incoming: Whether this host received it.
    """
    head = _PACKET.pack(interface, *divmod(time_ns, 1 << 32), len(data), length)
    flags = _U32.pack(_INBOUND if incoming else _OUTBOUND)
    options = [(_COMMENT, comment.encode()[:_LONGEST_OPTION]), (_EPB_FLAGS, flags)]
    return _block(_EPB, head + data + _padding(data), options)


def statistics(interface: int, time_ns: int, received: int, dropped: int) -> bytes:
    """How many packets came by an interface, and how many of them are missing."""
    head = _STATISTICS.pack(interface, *divmod(time_ns, 1 << 32))
    options = [(_ISB_RECEIVED, _U64.pack(received)), (_ISB_DROPPED, _U64.pack(dropped))]
    return _block(_ISB, head, options)


def _block(kind: int, body: bytes, options: Sequence[tuple[int, bytes]]) -> bytes:
    parts = [body]
    for code, value in options:
        parts += (_OPTION.pack(code, len(value)), value, _padding(value))
    parts.append(_OPTION.pack(_END, 0))
    whole = b"".join(parts)
    total = _BLOCK.size + len(whole) + _LENGTH.size
    return b"".join((_BLOCK.pack(kind, total), whole, _LENGTH.pack(total)))


def _padding(data: bytes) -> bytes:
    return bytes(-len(data) % 4)
