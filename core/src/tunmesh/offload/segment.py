"""Cutting superpackets into smaller ones, as the kernel or a network card would.

The checksum stays partial: only the pseudo-header is summed, so the payload is copied, not read.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias

from tunmesh.offload.header import (
    GSO_ECN,
    GSO_NONE,
    GSO_UDP_L4,
    HEADER,
    HEADER_SIZE,
    NEEDS_CSUM,
    TCP_CHECKSUM,
    UDP_HEADER,
)
from tunmesh.packet import IPV6_HEADER, TCP, UDP, Buffer, fold, pseudo_header_sum

_U16 = Struct(">H")
_U16X2 = Struct(">HH")
_U32 = Struct(">I")

# TCP flags (RFC 9293, section 3.1).
_FIN = 0x01
_PSH = 0x08
_CWR = 0x80

#: Writes the headers of one piece into the template: payload's length, its offset in the
#: superpacket's payload, the number of its first segment, whether it is the last.
_Writer: TypeAlias = Callable[[int, int, int, bool], None]


def split(frame: Buffer, segments: int) -> list[bytes]:
    """Cut a superpacket into frames of at most `segments` segments each.

    Lengths, IPv4 ids and header checksums, TCP sequence numbers and flags are those that the
    segments would have had; the partial checksums are made to fit. With ``segments=1`` the results
    are plain packets. Other frames, and those that are small enough, are returned as they are.
    """
    _, gso, _, size, start, offset = HEADER.unpack_from(frame)
    if not gso:
        return [bytes(frame)]
    if gso == GSO_UDP_L4:
        headers = HEADER_SIZE + start + UDP_HEADER
        write_transport = _udp_writer
    else:
        headers = HEADER_SIZE + start + (frame[HEADER_SIZE + start + 12] >> 4) * 4
        write_transport = _tcp_writer
    total = len(frame) - headers
    step = size * segments
    if size < total <= step:
        return [bytes(frame)]

    template = bytearray(frame[:headers])
    write_ip = (_ipv4_writer if template[HEADER_SIZE] >> 4 == 4 else _ipv6_writer)(template)
    write = write_transport(template, start)
    payload = memoryview(frame)[headers:]
    pieces = []
    for index, begin in enumerate(range(0, total, step)):
        piece = payload[begin : begin + step]
        length = len(piece)
        last = begin + step >= total
        if index == 0 or last:  # all others are alike
            if length > size:
                kind = gso if index == 0 else gso & ~GSO_ECN  # CWR is on the first segment only
                HEADER.pack_into(
                    template, 0, NEEDS_CSUM, kind, headers - HEADER_SIZE, size, start, offset
                )
            else:
                HEADER.pack_into(template, 0, NEEDS_CSUM, GSO_NONE, 0, 0, start, offset)
        elif index == 1:
            template[1] &= ~GSO_ECN
        write_ip(length, begin, index * segments, last)
        write(length, begin, index * segments, last)
        pieces.append(b"".join((template, piece)))
    return pieces


def _ipv4_writer(template: bytearray) -> _Writer:
    headers = len(template) - HEADER_SIZE
    ident = _U16.unpack_from(template, HEADER_SIZE + 4)[0]
    header = template[HEADER_SIZE : HEADER_SIZE + (template[HEADER_SIZE] & 15) * 4]
    header[2:6], header[10:12] = bytes(4), bytes(2)  # length and id, checksum
    base = int.from_bytes(header, "big")

    def write(length: int, _begin: int, segment: int, _last: bool) -> None:
        words = (headers + length, (ident + segment) & 0xFFFF)
        _U16X2.pack_into(template, HEADER_SIZE + 2, *words)
        _U16.pack_into(template, HEADER_SIZE + 10, 0xFFFF - fold(base + sum(words)))

    return write


def _ipv6_writer(template: bytearray) -> _Writer:
    headers = len(template) - HEADER_SIZE - IPV6_HEADER

    def write(length: int, _begin: int, _segment: int, _last: bool) -> None:
        _U16.pack_into(template, HEADER_SIZE + 4, headers + length)

    return write


def _tcp_writer(template: bytearray, start: int) -> _Writer:
    at = HEADER_SIZE + start
    header = len(template) - at
    sequence = _U32.unpack_from(template, at + 4)[0]
    flags = template[at + 13]
    pseudo = pseudo_header_sum(template[HEADER_SIZE:], TCP, header)

    def write(length: int, begin: int, segment: int, last: bool) -> None:
        _U32.pack_into(template, at + 4, (sequence + begin) & 0xFFFFFFFF)
        cleared = (_CWR if segment else 0) | (0 if last else _FIN | _PSH)
        template[at + 13] = flags & ~cleared
        _U16.pack_into(template, at + TCP_CHECKSUM, fold(pseudo + length))

    return write


def _udp_writer(template: bytearray, start: int) -> _Writer:
    at = HEADER_SIZE + start
    pseudo = pseudo_header_sum(template[HEADER_SIZE:], UDP, UDP_HEADER)

    def write(length: int, _begin: int, _segment: int, _last: bool) -> None:
        # The checksum stands directly behind the length.
        _U16X2.pack_into(template, at + 4, UDP_HEADER + length, fold(pseudo + length))

    return write
