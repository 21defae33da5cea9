"""Addresses, protocols and checksums of packets, with scapy as a second opinion."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.utils import checksum as scapy_checksum

from tunmesh.errors import BadPacket
from tunmesh.packet import (
    addresses_untrusted,
    checksum,
    describe,
    fold,
    protocol_untrusted,
    transport_untrusted,
)

IPV4 = IP(src="10.0.0.1", dst="10.0.0.2")
IPV6 = IPv6(src="fd00::1", dst="fd00::2")
DATAGRAM = UDP(sport=1000, dport=2000) / b"payload"


@given(st.binary(max_size=200))
def test_checksum_is_that_of_scapy(data: bytes) -> None:
    assert checksum(data) == scapy_checksum(data)


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0), st.binary(max_size=64))
def test_checksum_continues_a_sum(first: bytes, second: bytes) -> None:
    assert checksum(second, int.from_bytes(first, "big")) == checksum(first + second)


def test_both_zeros_of_the_sum_are_told_apart() -> None:
    assert (fold(0), fold(0xFFFF), fold(0x1FFFE)) == (0, 0xFFFF, 0xFFFF)
    assert checksum(b"") == checksum(bytes(20)) == 0xFFFF
    assert checksum(b"\xff\xff") == 0


@pytest.mark.parametrize(
    ("packet", "source", "destination"),
    [(IPV4 / DATAGRAM, "10.0.0.1", "10.0.0.2"), (IPV6 / DATAGRAM, "fd00::1", "fd00::2")],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_addresses(packet: IP | IPv6, source: str, destination: str, kind: type) -> None:
    expected = (ip_address(source).packed, ip_address(destination).packed)
    assert addresses_untrusted(kind(bytes(packet))) == expected


@pytest.mark.parametrize(
    ("packet", "protocol", "offset", "fragment"),
    [
        (IPV4 / DATAGRAM, 17, 20, False),
        (IP(options=[b"\x94\x04\0\0"], proto=2) / b"igmp", 2, 24, False),
        (IP(flags="DF") / DATAGRAM, 17, 20, False),
        (IP(flags="MF") / DATAGRAM, 17, 20, True),
        (IP(frag=3, proto=17) / b"rest", 17, 20, True),
        (IPV6 / DATAGRAM, 17, 40, False),
        (IPV6 / IPv6ExtHdrHopByHop() / DATAGRAM, 17, 48, False),
        (IPV6 / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / DATAGRAM, 17, 56, False),
        (IPV6 / IPv6ExtHdrFragment(m=1) / DATAGRAM, 17, 48, True),
        (IPV6 / IPv6ExtHdrFragment(offset=9, nh=58) / b"rest", 58, 48, True),
        (IPV6 / AH(nh=17, payloadlen=4, icv=bytes(12)) / DATAGRAM, 17, 64, False),
        (IPv6(nh=59), 59, 40, False),
    ],
)
def test_transport(packet: IP | IPv6, protocol: int, offset: int, fragment: bool) -> None:
    assert transport_untrusted(bytes(packet)) == (protocol, offset, fragment)
    assert protocol_untrusted(memoryview(bytes(packet))) == protocol


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(IPV4)[:19],
        bytes(IPV6)[:39],
        b"\x50" + bytes(60),
        bytes(IP(ihl=4) / DATAGRAM),
        bytes(IP(ihl=15) / b"short"),
        bytes(IPV6 / IPv6ExtHdrHopByHop())[:-1],
        bytes(IPV6 / IPv6ExtHdrDestOpt(len=9) / DATAGRAM),
        bytes(IPV6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / DATAGRAM),
        bytes(IPV6 / AH(payloadlen=200)),
    ],
)
def test_what_does_not_fit_is_refused(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        transport_untrusted(packet)
    assert describe(packet).startswith(("malformed", "IP"))


@given(
    st.sampled_from([b"", b"\x45", b"\x60" + bytes(5) + b"\0", b"\x60" + bytes(5) + b"\x33"]),
    st.binary(max_size=120),
)
def test_random_bytes_raise_only_bad_packet(start: bytes, rest: bytes) -> None:
    packet = start + rest
    for function in (addresses_untrusted, transport_untrusted, protocol_untrusted):
        try:
            function(packet)
        except BadPacket:
            pass
        else:
            assert packet[0] >> 4 in {4, 6}
    assert "\n" not in describe(packet)


def test_describe() -> None:
    assert describe(bytes(IPV4 / DATAGRAM)) == (
        "IPv4 10.0.0.1 > 10.0.0.2 UDP 1000 > 2000, 35 bytes"
    )
    assert describe(bytes(IPV6 / IPv6ExtHdrFragment(offset=9, nh=17) / b"rest")) == (
        "IPv6 fd00::1 > fd00::2 UDP fragment, 52 bytes"
    )
    assert describe(bytes(IP(src="10.0.0.1", dst="10.0.0.2", proto=200))) == (
        "IPv4 10.0.0.1 > 10.0.0.2 protocol 200, 20 bytes"
    )
    assert describe(b"\x45") == (
        "malformed packet of 1 bytes: neither IPv4 nor IPv6, or shorter than its header"
    )
