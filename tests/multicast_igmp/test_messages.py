"""IGMP and MLD packets: read as the RFCs say and as scapy builds them, built as scapy reads."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
import scapy.layers.inet6 as scapy6
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.igmp import IGMP, IGMPv3_MQ, IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import IP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6

from tests.multicast_igmp.packets import (
    HOST4,
    HOST6,
    igmp,
    igmp2,
    igmp3,
    mld,
    mld1,
    mld2,
    record,
    resummed,
)
from tunmesh.errors import BadPacket
from tunmesh_multicast_igmp.igmp import decode_igmp_untrusted, encode_igmp_query
from tunmesh_multicast_igmp.messages import (
    Query,
    Record,
    RecordType,
    Report,
    eight_bit_code,
    sixteen_bit_code,
)
from tunmesh_multicast_igmp.mld import decode_mld_untrusted, encode_mld_query

KINDS = list(RecordType)
groups4 = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
groups6 = st.binary(min_size=15, max_size=15).map(lambda rest: IPv6Address(b"\xff" + rest))
sources4 = st.integers(0x0A000000, 0x0AFFFFFF).map(IPv4Address)
sources6 = st.binary(min_size=14, max_size=14).map(lambda rest: IPv6Address(b"\xfd\x42" + rest))


def records_of(groups: st.SearchStrategy, sources: st.SearchStrategy) -> st.SearchStrategy:
    several = st.lists(sources, max_size=5).map(tuple)
    return st.lists(st.builds(Record, st.sampled_from(KINDS), groups, several), max_size=6)


# Reports


@given(records_of(groups4, sources4), st.sampled_from([b"", bytes(8)]))
def test_igmpv3_reports_are_read_as_built(records: list[Record], auxiliary: bytes) -> None:
    packet = igmp3(*records, auxiliary=auxiliary)
    assert decode_igmp_untrusted(packet) == Report(IPv4Address(HOST4), 3, tuple(records))


@given(records_of(groups6, sources6), st.sampled_from([b"", bytes(8)]))
def test_mldv2_reports_are_read_as_built(records: list[Record], auxiliary: bytes) -> None:
    packet = mld2(*records, auxiliary=auxiliary)
    assert decode_mld_untrusted(packet) == Report(IPv6Address(HOST6), 2, tuple(records))


@given(records_of(groups4, sources4))
def test_igmpv3_reports_are_read_as_scapy_builds_them(records: list[Record]) -> None:
    built = IP(src=HOST4, dst="224.0.0.22", ttl=1, tos=0xC0, options=[IPOption_Router_Alert()])
    body = IGMPv3_MR(
        records=[
            IGMPv3_MR_Group(
                rtype=int(kind), maddr=str(group), srcaddrs=[str(each) for each in sources]
            )
            for kind, group, sources in records
        ]
    )
    packet = bytes(built / body)
    assert decode_igmp_untrusted(packet) == Report(IPv4Address(HOST4), 3, tuple(records))


@given(records_of(groups6, sources6))
def test_mldv2_reports_are_read_as_scapy_builds_them(records: list[Record]) -> None:
    built = (
        IPv6(src=HOST6, dst="ff02::16", hlim=1)
        / scapy6.IPv6ExtHdrHopByHop(options=[scapy6.RouterAlert(), scapy6.PadN()])
        / scapy6.ICMPv6MLReport2(
            records=[
                scapy6.ICMPv6MLDMultAddrRec(
                    rtype=int(kind), dst=str(group), sources=[str(each) for each in sources]
                )
                for kind, group, sources in records
            ]
        )
    )
    packet = bytes(built)
    assert decode_mld_untrusted(packet) == Report(IPv6Address(HOST6), 2, tuple(records))


def test_older_reports_and_leaves_are_records_too() -> None:
    source4, source6 = IPv4Address(HOST4), IPv6Address(HOST6)
    join, leave = (record(kind, "239.1.2.3") for kind in (RecordType.IS_EX, RecordType.TO_IN))
    first = igmp(0x12, 0, IPv4Address("239.1.2.3").packed)
    assert decode_igmp_untrusted(first) == Report(source4, 1, (join,))
    assert decode_igmp_untrusted(igmp2("239.1.2.3")) == Report(source4, 2, (join,))
    assert decode_igmp_untrusted(igmp2("239.1.2.3", leave=True)) == Report(source4, 2, (leave,))
    join, leave = (record(kind, "ff15::1") for kind in (RecordType.IS_EX, RecordType.TO_IN))
    assert decode_mld_untrusted(mld1("ff15::1")) == Report(source6, 1, (join,))
    assert decode_mld_untrusted(mld1("ff15::1", done=True)) == Report(source6, 1, (leave,))


def test_older_reports_are_read_as_scapy_builds_them() -> None:
    header = IP(src=HOST4, dst="239.1.2.3", ttl=1, proto=2)
    for kind, version in ((0x12, 1), (0x16, 2)):
        packet = bytes(header / IGMP(type=kind, gaddr="239.1.2.3"))
        expected = Report(IPv4Address(HOST4), version, (record(RecordType.IS_EX, "239.1.2.3"),))
        assert decode_igmp_untrusted(packet) == expected
    alert = scapy6.IPv6ExtHdrHopByHop(options=[scapy6.RouterAlert(), scapy6.PadN()])
    packet = bytes(
        IPv6(src=HOST6, dst="ff15::1", hlim=1) / alert / scapy6.ICMPv6MLReport(mladdr="ff15::1")
    )
    expected6 = Report(IPv6Address(HOST6), 1, (record(RecordType.IS_EX, "ff15::1"),))
    assert decode_mld_untrusted(packet) == expected6


def test_records_of_unknown_type_are_left_out() -> None:
    known = record(RecordType.TO_EX, "239.1.2.3")
    packet = bytearray(igmp3(known, known))
    packet[32] = 7
    assert decode_igmp_untrusted(resummed(bytes(packet))) == Report(IPv4Address(HOST4), 3, (known,))


def test_what_follows_the_records_is_ignored() -> None:
    known = record(RecordType.TO_EX, "239.1.2.3")
    longer = igmp3(known) + b"more"
    longer = longer[:3] + bytes((len(longer),)) + longer[4:]
    assert decode_igmp_untrusted(resummed(longer)) == Report(IPv4Address(HOST4), 3, (known,))


def test_other_messages_are_of_no_concern() -> None:
    assert decode_igmp_untrusted(igmp(0x13)) is None  # DVMRP
    solicitation = mld(133, bytes(4), to="ff02::2")
    assert decode_mld_untrusted(solicitation) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        igmp3()[:24],
        igmp3()[:-1],
        igmp(0x22, 0, bytes(2) + b"\0\1"),  # a record that is not there
        igmp3(record(RecordType.TO_EX, "10.0.0.1")),
        igmp3(record(RecordType.TO_EX, "239.1.2.3", "224.0.0.5")),
        igmp3(record(RecordType.TO_EX, "239.1.2.3", "0.0.0.0")),
        igmp(0x16, 0, bytes(4)),
        igmp(0x11, 0, bytes(6)),  # neither a query of eight bytes nor of twelve
        igmp(0x11, 0, bytes(4) + bytes(2) + b"\0\1"),
        igmp3()[:9] + b"\3" + igmp3()[10:],
        igmp3()[:6] + b"\x20\0" + igmp3()[8:],  # a fragment
        igmp3()[:-1] + b"\1",
        b"\x4f" + igmp3()[1:],
    ],
)
def test_malformed_igmp(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        decode_igmp_untrusted(packet)
    with pytest.raises(BadPacket):
        decode_mld_untrusted(packet)


@pytest.mark.parametrize(
    "packet",
    [
        mld2()[:48],
        mld2()[:-1],
        mld(143, bytes(2) + b"\0\1"),
        mld2(record(RecordType.TO_EX, "fd00::1")),
        mld2(source="fd42::1"),  # not of this link
        resummed(mld2()[:7] + b"\2" + mld2()[8:]),  # came through a router
        resummed(mld2()[:42] + b"\1\4" + mld2()[44:]),  # no router alert
        resummed(mld2()[:42] + b"\1\0\1\0\1\1" + mld2()[48:]),  # an option without length
        mld(131, bytes(4)),
        mld(130, bytes(21)),
        mld(130, bytes(22) + b"\0\1"),
        mld2()[:-1] + b"\1",
    ],
)
def test_malformed_mld(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        decode_mld_untrusted(packet)
    with pytest.raises(BadPacket):
        decode_igmp_untrusted(packet)


# Queries


@given(
    st.none() | groups4,
    st.lists(sources4, max_size=4),
    st.floats(0.1, 100),
    st.floats(1, 30_000),
    st.integers(1, 9),
)
def test_igmp_queries_are_what_scapy_builds(
    group: IPv4Address | None,
    sources: list[IPv4Address],
    response: float,
    interval: float,
    robustness: int,
) -> None:
    packet = encode_igmp_query(
        response=response, interval=interval, robustness=robustness, group=group, sources=sources
    )
    read = IP(packet)
    assert (read.ttl, read.tos, read.src) == (1, 0xC0, "0.0.0.0")
    assert read.dst == str(group or "224.0.0.1")
    assert isinstance(read.options[0], IPOption_Router_Alert)
    query = read[IGMPv3_MQ]
    assert packet[25] == eight_bit_code(round(response * 10))
    assert (query.gaddr, query.s) == (str(group or "0.0.0.0"), 0)
    assert query.qrv == (robustness if robustness < 8 else 0)
    assert query.qqic == eight_bit_code(round(interval))
    assert query.srcaddrs == [str(source) for source in sources]
    assert decode_igmp_untrusted(packet) == Query(IPv4Address(0), 3, group, tuple(sources))


@given(st.none() | groups6, st.lists(sources6, max_size=4), st.floats(0.1, 8000))
def test_mld_queries_are_what_scapy_builds(
    group: IPv6Address | None, sources: list[IPv6Address], response: float
) -> None:
    source = IPv6Address("fe80::77")
    packet = encode_mld_query(
        source, response=response, interval=125, robustness=2, group=group, sources=sources
    )
    read = IPv6(packet)
    assert (read.hlim, read.src, read.dst) == (1, str(source), str(group or "ff02::1"))
    query = read[scapy6.ICMPv6MLQuery2]
    assert (query.QRV, query.QQIC, query.S) == (2, 125, 0)
    assert query.mladdr == str(group or "::")
    assert query.mrd == sixteen_bit_code(round(response * 1000))
    assert query.sources == [str(each) for each in sources]
    rebuilt = read.copy()
    del rebuilt[scapy6.ICMPv6MLQuery2].cksum
    assert bytes(rebuilt) == packet
    assert decode_mld_untrusted(packet) == Query(source, 2, group, tuple(sources))


def test_older_queries_are_told_apart_by_their_length() -> None:
    first, second = (decode_igmp_untrusted(igmp(0x11, code)) for code in (0, 100))
    assert (first, second) == (Query(IPv4Address(HOST4), 1), Query(IPv4Address(HOST4), 2))
    assert decode_mld_untrusted(mld(130, bytes(20))) == Query(IPv6Address(HOST6), 1)


@given(st.integers(0, 31_744))
def test_the_eight_bit_code_rounds_down(value: int) -> None:
    code = eight_bit_code(value)
    decoded = code if code < 128 else ((code & 15) | 16) << ((code >> 4 & 7) + 3)
    assert decoded <= value
    assert value - decoded <= decoded / 16
    assert eight_bit_code(decoded) == code


@given(st.integers(0, 8_387_584))
def test_the_sixteen_bit_code_rounds_down(value: int) -> None:
    code = sixteen_bit_code(value)
    decoded = code if code < 32_768 else ((code & 0xFFF) | 0x1000) << ((code >> 12 & 7) + 3)
    assert decoded <= value
    assert value - decoded <= decoded / 4096
    assert sixteen_bit_code(decoded) == code
