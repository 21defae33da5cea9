"""Between the mesh's IP packets and a machine's Ethernet frames. Contains no I/O.

On this Ethernet are the machine and we, who stand for everybody else: every address that is not the
machine's own is ours (proxy ARP, RFC 1027, and its like for IPv6).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from tunmesh.interfaces.tun import Buffer, Interface
from tunmesh.packet import addresses_untrusted, checksum, pseudo_header_sum, transport_untrusted
from tunmesh.plugin import BadPacket

#: Destination, source, type of what follows.
_HEADER = struct.Struct("!6s6sH")
HEADER_SIZE = _HEADER.size
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
#: RFC 826 for IPv4 over Ethernet: operation, then hardware and protocol address of both.
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")
_ARP_KIND = (1, _IPV4, 6, 4)
_REQUEST, _REPLY = 1, 2
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136  # RFC 4861, sections 4.3 and 4.4
#: Flags of an advertisement: we are a router, this answers, it replaces what you knew.
_ROUTER_SOLICITED_OVERRIDE = 0xE0000000
_BROADCAST = b"\xff" * 6
#: Ours: locally administered, of no vendor.
OWN_MAC = bytes.fromhex("02746d000001")


class Heard(NamedTuple):
    """What a frame of the machine means.

    Attributes:
        packet: An IP packet for the mesh, if it is one.
        answer: A frame to answer with, if it asks for one.
    """

    packet: bytes = b""
    answer: bytes = b""


class Ethernet:
    """The segment that the machine and we are on."""

    def __init__(self) -> None:
        self._machine = _BROADCAST  # until it is heard
        self._own: frozenset[bytes] = frozenset()
        self._broadcasts: frozenset[bytes] = frozenset()

    def configure(self, addresses: Iterable[Interface], broadcasts: Iterable[IPv4Address]) -> None:
        """Which addresses the machine has, and which are broadcast addresses."""
        self._own = frozenset(address.ip.packed for address in addresses)
        self._broadcasts = frozenset(address.packed for address in broadcasts)

    def encode(self, packet: Buffer) -> bytes:
        """The frame that brings an IP packet to the machine.

        Raises:
            BadPacket: It is none.
        """
        _, destination = addresses_untrusted(packet)
        if len(destination) == 16:
            kind, multicast = _IPV6, destination[0] == 0xFF
            group = b"\x33\x33" + destination[12:]  # RFC 2464, section 7
        else:
            kind, multicast = _IPV4, destination[0] >> 4 == 14
            group = b"\x01\x00\x5e" + bytes([destination[1] & 0x7F]) + destination[2:]  # RFC 1112
        if multicast:
            receiver = group
        else:
            receiver = _BROADCAST if destination in self._broadcasts else self._machine
        return _HEADER.pack(receiver, OWN_MAC, kind) + bytes(packet)

    def decode_untrusted(self, frame: Buffer) -> Heard:
        """What a frame of the machine means.

        Raises:
            BadPacket: It is malformed.
        """
        if len(frame) < HEADER_SIZE:
            raise BadPacket("shorter than an Ethernet header")
        _, sender, kind = _HEADER.unpack_from(frame)
        if not sender[0] & 1:  # a group sends nothing
            self._machine = sender
        body = bytes(frame[HEADER_SIZE:])
        if kind == _ARP:
            return self._arp(body)
        if kind == _IPV4:
            addresses_untrusted(body)
            return Heard(packet=_whole(body, int.from_bytes(body[2:4], "big"), 4))
        if kind == _IPV6:
            addresses_untrusted(body)
            return self._ipv6(_whole(body, 40 + int.from_bytes(body[4:6], "big"), 6))
        return Heard()  # neither ours to carry nor an error: LLDP, spanning tree

    def _arp(self, body: bytes) -> Heard:
        if len(body) < _ARP_PACKET.size:
            raise BadPacket("shorter than an ARP packet")
        *kind, operation, sender, address, _, target = _ARP_PACKET.unpack_from(body)
        if tuple(kind) != _ARP_KIND:
            raise BadPacket("ARP for neither Ethernet nor IPv4")
        # Who asks for its own address wants to know that nobody has it (RFC 5227).
        if operation != _REQUEST or target in self._own or target == address or not any(address):
            return Heard()
        answer = _ARP_PACKET.pack(*_ARP_KIND, _REPLY, OWN_MAC, target, sender, address)
        return Heard(answer=_HEADER.pack(sender, OWN_MAC, _ARP) + answer)

    def _ipv6(self, packet: bytes) -> Heard:
        protocol, offset, fragment = transport_untrusted(packet)
        if protocol != _ICMPV6 or fragment or packet[offset : offset + 1] != bytes([_SOLICITATION]):
            return Heard(packet=packet)
        if len(packet) < offset + 24:
            raise BadPacket("shorter than a neighbour solicitation")
        source, target = packet[8:24], packet[offset + 8 : offset + 24]
        # Without a source it asks whether an address is free (RFC 4862, section 5.4.3): it is.
        if not any(source) or target in self._own:
            return Heard()
        answer = struct.pack("!BBHI16sBB6s", _ADVERTISEMENT, 0, 0, _ROUTER_SOLICITED_OVERRIDE,
                             target, 2, 1, OWN_MAC)  # fmt: skip
        header = _IPV6_HEADER.pack(6 << 28, len(answer), _ICMPV6, 255, target, source)
        proof = checksum(answer, pseudo_header_sum(header, _ICMPV6, len(answer)))
        answer = answer[:2] + proof.to_bytes(2, "big") + answer[4:]
        return Heard(answer=_HEADER.pack(self._machine, OWN_MAC, _IPV6) + header + answer)


def _whole(body: bytes, length: int, version: int) -> bytes:
    """A packet without what pads short frames."""
    if body[0] >> 4 != version or not 20 <= length <= len(body):
        raise BadPacket("an IP packet that the frame does not hold")
    return body[:length]
