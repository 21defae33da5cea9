"""Offloads in software, with segments built by scapy as a second opinion."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet

from tunmesh.errors import BadPacket, LocalProtocolError
from tunmesh.offload import (
    MAX_COALESCED,
    adapt,
    check_frame_untrusted,
    coalesce_udp,
    complete_checksum,
    split,
)
from tunmesh.packet import fold, pseudo_header_sum, transport_untrusted

VIRTIO = struct.Struct("<BBHHHH")
CWR, PSH, FIN = 0x80, 0x08, 0x01
ECN = 0x80
ALL_OFFLOADS = frozenset({"csum", "tso4", "tso6", "uso4", "uso6"})


@dataclass(frozen=True)
class Flow:
    """A superpacket, and the packets that it stands for."""

    version: int
    tcp: bool
    payload: bytes
    size: int
    flags: int = 0x10
    seq: int = 1
    ident: int = 1
    extension: bool = False

    def packet(self, begin: int, end: int, index: int = 0) -> Packet:
        """One segment, built by scapy with its final checksums."""
        ip: Packet = IPv6(src="fd00::1", dst="fd00::2", tc=3)
        if self.version == 4:
            ident = (self.ident + index) & 0xFFFF
            ip = IP(src="10.0.0.1", dst="10.0.0.2", id=ident, flags="DF", tos=3)
        elif self.extension:
            ip = ip / IPv6ExtHdrDestOpt()
        if not self.tcp:
            return ip / UDP(sport=53, dport=4000) / self.payload[begin:end]
        flags = self.flags & ~(CWR if begin else 0)
        if end < len(self.payload):
            flags &= ~(PSH | FIN)
        seq = (self.seq + begin) & 0xFFFFFFFF
        options = [("Timestamp", (7, 8)), ("NOP", None), ("NOP", None)]
        tcp = TCP(sport=80, dport=4000, seq=seq, ack=5, flags=flags, options=options)
        return ip / tcp / self.payload[begin:end]

    @property
    def kind(self) -> int:
        """The kind of superpacket."""
        if not self.tcp:
            return 5
        return (1 if self.version == 4 else 4) | (ECN if self.flags & CWR else 0)

    def frame(self) -> bytes:
        """The superpacket, as the kernel would give it."""
        return partial(self.packet(0, len(self.payload)), kind=self.kind, size=self.size)

    def segments(self) -> list[bytes]:
        """The packets that it stands for."""
        starts = range(0, len(self.payload), self.size)
        return [
            never_zero(bytes(self.packet(at, min(at + self.size, len(self.payload)), index)))
            for index, at in enumerate(starts)
        ]


def partial(packet: Packet, *, kind: int = 0, size: int = 0) -> bytes:
    """A frame of a scapy packet, with a partial checksum."""
    data = bytearray(bytes(packet))
    protocol, start, _ = transport_untrusted(data)
    offset = 16 if protocol == 6 else 6
    pseudo = fold(pseudo_header_sum(data, protocol, len(data) - start))
    struct.pack_into(">H", data, start + offset, pseudo)
    headers = start + (8 if protocol == 17 else (data[start + 12] >> 4) * 4)
    return VIRTIO.pack(1, kind, headers if kind else 0, size, start, offset) + bytes(data)


def never_zero(packet: bytes) -> bytes:
    """Write a TCP checksum of 0 as 0xffff, as the kernel does."""
    protocol, start, _ = transport_untrusted(packet)
    at = start + (16 if protocol == 6 else 6)
    return packet[:at] + packet[at : at + 2].replace(b"\0\0", b"\xff\xff") + packet[at + 2 :]


def items(frames: Iterable[bytes]) -> bytes:
    """A unit's plaintext."""
    return b"".join(b"\x01" + len(frame).to_bytes(3, "big") + frame for frame in frames)


flows = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    tcp=st.booleans(),
    payload=st.binary(min_size=1, max_size=120),
    size=st.integers(min_value=1, max_value=60),
    flags=st.integers(min_value=0, max_value=0xFF),
    seq=st.integers(min_value=0, max_value=0xFFFFFFFF),
    ident=st.integers(min_value=0, max_value=0xFFFF),
    extension=st.booleans(),
)


@given(flows)
def test_split_into_plain_packets(flow: Flow) -> None:
    pieces = split(flow.frame(), 1)
    for piece in pieces:
        check_frame_untrusted(piece)
    assert [complete_checksum(piece) for piece in pieces] == [
        bytes(10) + packet for packet in flow.segments()
    ]


@given(flows, st.integers(min_value=1, max_value=9))
def test_split_into_smaller_superpackets(flow: Flow, segments: int) -> None:
    frame = flow.frame()
    pieces = split(memoryview(frame), segments)
    for number, piece in enumerate(pieces):
        check_frame_untrusted(piece)
        assert len(split(piece, 1)) <= segments
        assert not piece[1] & ECN or number == 0
    assert [plain for piece in pieces for plain in split(piece, 1)] == split(frame, 1)


def test_split_leaves_alone_what_is_small_enough() -> None:
    flow = Flow(version=4, tcp=True, payload=bytes(100), size=50)
    assert split(flow.frame(), 2) == [flow.frame()]
    plain = partial(flow.packet(0, 100))
    assert split(plain, 1) == [plain]


def test_split_gives_at_most_the_wanted_segments_of_a_large_superpacket() -> None:
    flow = Flow(version=6, tcp=True, payload=bytes(64_000), size=1348, flags=CWR | PSH | FIN)
    pieces = split(flow.frame(), 10)
    assert [len(split(piece, 1)) for piece in pieces] == [10, 10, 10, 10, 8]
    assert [piece[1] for piece in pieces] == [4 | ECN, 4, 4, 4, 4]


@given(flows)
def test_whole_frames_pass_the_check(flow: Flow) -> None:
    plain = split(flow.frame(), 1)[0]
    for frame in (flow.frame(), plain, complete_checksum(plain)):
        check_frame_untrusted(frame)
        check_frame_untrusted(memoryview(frame))


@given(
    flows,
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.integers(0, 20),
)
def test_mutations_raise_only_bad_packet_and_what_passes_can_be_worked_on(
    flow: Flow, changes: list[tuple[int, int]], cut: int
) -> None:
    frame = bytearray(flow.frame())
    for at, value in changes:
        frame[at % len(frame)] = value
    del frame[len(frame) - cut :]
    try:
        check_frame_untrusted(frame)
    except BadPacket:
        return
    for piece in split(frame, 1):
        check_frame_untrusted(piece)
        check_frame_untrusted(complete_checksum(piece))


@given(st.binary(max_size=100))
def test_random_frames_raise_only_bad_packet(data: bytes) -> None:
    assume(data[:10] != bytes(10))
    for frame in (data, bytes(10) + data, data[:10] + b"\x45" + data[10:]):
        try:
            check_frame_untrusted(frame)
        except BadPacket:
            continue


UDP4 = Flow(version=4, tcp=False, payload=bytes(100), size=50).frame()
UDP6 = Flow(version=6, tcp=False, payload=bytes(100), size=50).frame()
TCP4 = Flow(version=4, tcp=True, payload=bytes(100), size=50).frame()
TCP6 = Flow(version=6, tcp=True, payload=bytes(100), size=50).frame()
FRAGMENT6 = partial(IPv6() / IPv6ExtHdrFragment() / UDP() / bytes(100), kind=5, size=50)


def change(frame: bytes, at: int, value: bytes) -> bytes:
    """The frame with other bytes at an offset."""
    return frame[:at] + value + frame[at + len(value) :]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(29), id="shorter than a header"),
        pytest.param(TCP4[:-1], id="shorter than the IPv4 length"),
        pytest.param(TCP6 + b"\0", id="longer than the IPv6 length"),
        pytest.param(change(TCP4, 10, b"\x55"), id="IP version 5"),
        pytest.param(change(bytes(10) + TCP4[10:], 10, b"\x44"), id="IPv4 header of 16 bytes"),
        pytest.param(change(TCP4, 0, b"\x05"), id="unknown flag"),
        pytest.param(change(TCP4, 0, b"\x00"), id="superpacket without partial checksum"),
        pytest.param(change(TCP4, 2, b"\xff\xff"), id="hint beyond the packet"),
        pytest.param(change(TCP4, 2, b"\x30\x00"), id="hint inside the headers"),
        pytest.param(change(UDP4, 2, b"\x1b\x00"), id="hint inside the UDP header"),
        pytest.param(change(TCP4, 1, b"\x04"), id="TCPv6 in IPv4"),
        pytest.param(change(TCP6, 1, b"\x01"), id="TCPv4 in IPv6"),
        pytest.param(change(TCP4, 1, b"\x05"), id="USO of TCP"),
        pytest.param(change(UDP4, 1, b"\x01"), id="TSO of UDP"),
        pytest.param(change(UDP4, 1, b"\x03"), id="UFO"),
        pytest.param(change(UDP4, 1, b"\x85"), id="ECN with UDP"),
        pytest.param(change(TCP4, 4, b"\x00\x00"), id="segments of 0 bytes"),
        pytest.param(change(TCP4, 6, b"\x13\x00"), id="checksum begins in the IPv4 header"),
        pytest.param(change(TCP6, 6, b"\x20\x00"), id="checksum begins in the IPv6 header"),
        pytest.param(change(TCP4, 6, b"\x18\x00"), id="checksum does not begin with TCP"),
        pytest.param(change(TCP4, 8, b"\xff\x00"), id="checksum beyond the packet"),
        pytest.param(change(TCP4, 8, b"\x06\x00"), id="TCP checksum elsewhere"),
        pytest.param(change(UDP4, 8, b"\x10\x00"), id="UDP checksum elsewhere"),
        pytest.param(change(TCP4, 16, b"\x20\x00"), id="superpacket that is a fragment"),
        pytest.param(FRAGMENT6, id="superpacket that is an IPv6 fragment"),
        pytest.param(change(TCP4, 42, b"\x40"), id="TCP header of 16 bytes"),
        pytest.param(
            change(Flow(4, tcp=True, payload=b"x", size=1).frame(), 42, b"\xf0"),
            id="TCP header too long",
        ),
        pytest.param(change(UDP6, 54, b"\x00\x08"), id="UDP length of one segment"),
        pytest.param(partial(IP() / UDP(), kind=5, size=8), id="superpacket without payload"),
        pytest.param(Flow(4, tcp=False, payload=bytes(129), size=1).frame(), id="129 datagrams"),
    ],
)
def test_refused(frame: bytes) -> None:
    with pytest.raises(BadPacket):
        check_frame_untrusted(frame)


def test_complete_checksum_needs_a_packet() -> None:
    with pytest.raises(LocalProtocolError):
        complete_checksum(TCP4)


def test_complete_checksum_never_gives_zero() -> None:
    # Payload chosen so that the one's complement sum is 0xffff.
    plain = partial(IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / bytes(2))
    need = int.from_bytes(complete_checksum(plain)[36:38], "big")
    zero = plain[:-2] + need.to_bytes(2, "big")
    assert complete_checksum(zero)[36:38] == b"\xff\xff"


def test_complete_checksum_forgets_that_it_was_verified() -> None:
    packet = bytes(IP() / UDP() / b"data")
    assert complete_checksum(VIRTIO.pack(2, 0, 0, 0, 0, 0) + packet) == bytes(10) + packet


@given(flows, st.frozensets(st.sampled_from(sorted(ALL_OFFLOADS))))
def test_adapt_gives_only_what_the_device_can_take(flow: Flow, offloads: frozenset[str]) -> None:
    frame = flow.frame()
    pieces = adapt(frame, offloads)
    need = f"{'tso' if flow.tcp else 'uso'}{flow.version}"
    if "csum" in offloads:
        assert pieces == ([frame] if need in offloads else split(frame, 1))
    else:
        assert pieces == [bytes(10) + packet for packet in flow.segments()]


def equal_datagrams(version: int, part: bytes, ident: int) -> Flow:
    """A superpacket of twelve datagrams of one size."""
    payload = b"".join(bytes([number]) + part for number in range(12))
    return Flow(version, tcp=False, payload=payload, size=1 + len(part), ident=ident)


datagrams = st.builds(
    equal_datagrams, st.sampled_from([4, 6]), st.binary(max_size=16), st.integers(0, 0xFFFF)
)


@given(datagrams, st.binary(max_size=30))
def test_coalescing_is_undone_by_splitting(flow: Flow, before: bytes) -> None:
    frames = split(flow.frame(), 1)
    stride = len(frames[0]) + 4
    joined = coalesce_udp(before + items(frames) + b"more", len(before), stride, len(frames))
    assert joined == flow.frame()
    check_frame_untrusted(joined)


@given(datagrams, st.integers(0, 11), st.integers(0, 57), st.integers(1, 255))
def test_different_datagrams_are_not_coalesced(
    flow: Flow, item: int, at: int, difference: int
) -> None:
    headers = 28 if flow.version == 4 else 48
    assume(at < 10 + headers)
    frames = [bytearray(frame) for frame in split(flow.frame(), 1)]
    frames[item][at] ^= difference
    joined = coalesce_udp(items(map(bytes, frames)), 0, len(frames[0]) + 4, len(frames))
    # What may differ: hint and segment size of a header that uses neither, the place of a checksum
    # once the first datagram has told it, IPv4's id and checksum, and the checksum to be finished.
    free = {2, 3, 4, 5, *({6, 7, 8, 9} if item else ()), 10 + headers - 2, 10 + headers - 1}
    if flow.version == 4:
        free |= {14, 15, 20, 21}
    assert (joined is not None) == (at in free)


@pytest.mark.parametrize(
    "packet",
    [
        IP(options=[b"\x94\x04\0\0"]) / UDP() / b"data",
        IP(flags="MF") / UDP() / b"data",
        IP() / UDP(),
        IP() / TCP() / b"data",
        IP() / UDP(len=9) / b"data",
        IPv6() / IPv6ExtHdrDestOpt() / UDP() / b"data",
        IPv6() / TCP() / b"data",
    ],
)
def test_only_plain_datagrams_are_coalesced(packet: Packet) -> None:
    frame = partial(packet)
    assert coalesce_udp(items([frame] * 3), 0, len(frame) + 4, 3) is None


def test_finished_checksums_and_superpackets_are_not_coalesced() -> None:
    plain = partial(IP() / UDP() / b"data")
    other = bytes(10) + b"\x20" * 40
    for frame in (complete_checksum(plain), change(plain, 0, b"\x03"), UDP4, other):
        assert coalesce_udp(items([frame] * 3), 0, len(frame) + 4, 3) is None


@pytest.mark.parametrize("at", range(4))
def test_items_of_another_kind_or_length_are_not_coalesced(at: int) -> None:
    frame = partial(IP() / UDP() / b"data")
    unit = bytearray(items([frame] * 3))
    stride = len(frame) + 4
    unit[2 * stride + at] ^= 1
    assert coalesce_udp(bytes(unit), 0, stride, 3) is None


@pytest.mark.parametrize(
    ("ip", "payload", "most"),
    [(IP(), 1200, 54), (IPv6(), 1200, 54), (IP(), 64, MAX_COALESCED), (IPv6(), 3277, 19)],
)
def test_coalescing_stops_at_the_largest_packet(ip: Packet, payload: int, most: int) -> None:
    frame = partial(ip / UDP() / bytes(payload))
    unit = items([frame] * (most + 1))
    joined = coalesce_udp(unit, 0, len(frame) + 4, most)
    assert joined is not None
    check_frame_untrusted(joined)
    assert coalesce_udp(unit, 0, len(frame) + 4, most + 1) is None
