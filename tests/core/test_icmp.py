"""ICMP errors, read by another implementation, and where there must be none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from tunmesh.icmp import ANSWERED, unreachable
from tunmesh.packet import checksum, pseudo_header_sum

V4 = {"src": "10.42.0.1", "dst": "10.42.0.9"}
V6 = {"src": "fd42::1", "dst": "fd42::9"}


def ipv4(**more: object) -> Packet:
    return IP(**{**V4, **more})


def ipv6(**more: object) -> Packet:
    return IPv6(**{**V6, **more})


@pytest.mark.parametrize(
    ("reason", "code"), [("outside_network", 0), ("no_route", 1), ("peer_gone", 1)]
)
@pytest.mark.parametrize("size", [0, 100, 1372, 60_000])
def test_ipv4(reason: str, code: int, size: int) -> None:
    packet = bytes(ipv4() / UDP(sport=7, dport=9) / Raw(bytes(size)))
    error = unreachable(packet, reason)
    assert error is not None
    assert len(error) <= 576
    read = IP(error)
    assert (read.src, read.dst, read.proto) == ("10.42.0.9", "10.42.0.1", 1)
    assert (read[ICMP].type, read[ICMP].code) == (3, code)
    assert read.len == len(error)
    assert checksum(error[:20]) == 0
    assert checksum(error[20:]) == 0
    assert error[28:] == packet[: len(error) - 28]
    assert len(error) == min(576, 28 + len(packet))


@pytest.mark.parametrize(
    ("reason", "code"), [("outside_network", 0), ("no_route", 3), ("peer_gone", 3)]
)
@pytest.mark.parametrize("size", [0, 1300, 60_000])
def test_ipv6(reason: str, code: int, size: int) -> None:
    packet = bytes(ipv6() / TCP(sport=7, dport=9) / Raw(bytes(size)))
    error = unreachable(packet, reason)
    assert error is not None
    assert len(error) <= 1280
    read = IPv6(error)
    assert (read.src, read.dst) == ("fd42::9", "fd42::1")
    assert (read[ICMPv6DestUnreach].type, read[ICMPv6DestUnreach].code) == (1, code)
    assert checksum(error[40:], pseudo_header_sum(error, 58, len(error) - 40)) == 0
    assert error[48:] == packet[: len(error) - 48]


NO_ERROR = [
    ipv4() / ICMP(type=3, code=1) / Raw(bytes(28)),
    ipv4() / ICMP(type=11) / Raw(bytes(28)),
    ipv4(frag=10) / Raw(bytes(100)),
    ipv4(dst="239.1.1.1") / UDP(),
    ipv4(src="0.0.0.0") / UDP(),
    ipv4(src="224.0.0.1") / UDP(),
    ipv6() / ICMPv6PacketTooBig() / Raw(bytes(48)),
    ipv6() / ICMPv6DestUnreach() / Raw(bytes(48)),
    ipv6(dst="ff05::1") / UDP(),
    ipv6(src="::") / UDP(),
    ipv6() / IPv6ExtHdrFragment(offset=10, nh=17) / Raw(bytes(100)),
]


@pytest.mark.parametrize("packet", NO_ERROR, ids=lambda packet: packet.summary()[:40])
@pytest.mark.parametrize("reason", sorted(ANSWERED))
def test_about_these_there_is_no_error(packet: Packet, reason: str) -> None:
    assert unreachable(bytes(packet), reason) is None


ERROR = [
    ipv4() / ICMP(type=8),
    ipv4(flags="MF") / UDP() / Raw(bytes(64)),
    ipv6() / ICMPv6EchoRequest(),
    ipv6() / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP() / Raw(bytes(64)),
    ipv6(src="fe80::1", dst="fe80::2") / UDP(),
]


@pytest.mark.parametrize("packet", ERROR, ids=lambda packet: packet.summary()[:40])
def test_about_these_there_is_one(packet: Packet) -> None:
    assert unreachable(bytes(packet), "no_route") is not None


@given(st.binary(max_size=120), st.sampled_from([0x45, 0x46, 0x60, 0x00]))
def test_nonsense_never_raises(data: bytes, first: int) -> None:
    error = unreachable(bytes([first]) + data, "no_route")
    assert error is None or unreachable(error, "no_route") is None
