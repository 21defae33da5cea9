"""The payloads inside INIT and RESP: what each node says of itself. Big-endian; sizes in bytes.

::

    INIT 64    timestamp 8 | boot id 8 | node id 16 | challenge 16 | highest version 1
               | suites 2 | capabilities 2 | max datagram 2 | credential length 2 | reserved 7
    RESP 96    receiver index 4 | sender index 4 | reserved 8 | boot id 8 | node id 16
               | reserved 16 | highest version 1 | suites 2 | capabilities 2 | max datagram 2
               | observed: family 1, port 2, address 16 | credential length 2 | reserved 12

Credentials do not exist yet: their length is zero.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tunmesh.errors import BadPacket

INIT_PAYLOAD_SIZE: Final = 64
RESP_PAYLOAD_SIZE: Final = 96

NO_CHALLENGE: Final = bytes(16)

_INIT = struct.Struct(">Q8s16s16sBHHHH7x")
_RESP = struct.Struct(">II8x8s16s16xBHHH19sH12x")
_OBSERVED = struct.Struct(">BH16s")
_UNKNOWN: Final = bytes(_OBSERVED.size)


@dataclass(frozen=True, slots=True)
class InitPayload:
    """What the initiator says.

    Attributes:
        timestamp: Grows with every request of a process; nanoseconds since 1970 if its clock
            is right.
        challenge: What a COOKIE asked to repeat, else zero.
    """

    timestamp: int
    boot_id: bytes
    node_id: bytes
    challenge: bytes
    highest_version: int
    suites: int
    capabilities: int
    max_datagram: int


@dataclass(frozen=True, slots=True)
class RespPayload:
    """What the responder says.

    Attributes:
        sender: Header field, repeated where it is authenticated.
        receiver: Likewise.
        observed: The initiator's address as seen, see `encode_observed`.
    """

    sender: int
    receiver: int
    boot_id: bytes
    node_id: bytes
    highest_version: int
    suites: int
    capabilities: int
    max_datagram: int
    observed: bytes


def encode_init_payload(payload: InitPayload) -> bytes:
    """The 64 bytes of an `InitPayload`."""
    return _INIT.pack(
        payload.timestamp,
        payload.boot_id,
        payload.node_id,
        payload.challenge,
        payload.highest_version,
        payload.suites,
        payload.capabilities,
        payload.max_datagram,
        0,
    )


def decode_init_payload_untrusted(data: bytes) -> InitPayload:
    """Take the payload of an INIT apart."""
    if len(data) != INIT_PAYLOAD_SIZE:
        raise BadPacket(f"an INIT payload of {len(data)} bytes")
    *fields, credential = _INIT.unpack(data)
    if credential:
        raise BadPacket("an INIT with a credential")
    return InitPayload(*fields)


def encode_resp_payload(payload: RespPayload) -> bytes:
    """The 96 bytes of a `RespPayload`."""
    return _RESP.pack(
        payload.sender,
        payload.receiver,
        payload.boot_id,
        payload.node_id,
        payload.highest_version,
        payload.suites,
        payload.capabilities,
        payload.max_datagram,
        payload.observed,
        0,
    )


def decode_resp_payload_untrusted(data: bytes) -> RespPayload:
    """Take the payload of a RESP apart."""
    if len(data) != RESP_PAYLOAD_SIZE:
        raise BadPacket(f"a RESP payload of {len(data)} bytes")
    *fields, credential = _RESP.unpack(data)
    if credential:
        raise BadPacket("a RESP with a credential")
    return RespPayload(*fields)


def encode_observed(endpoint: str) -> bytes:
    """An endpoint in 19 bytes; all zero if it has no literal address and port."""
    try:
        parts = urlsplit(endpoint)
        address = ipaddress.ip_address((parts.hostname or "").partition("%")[0])
        port = parts.port
    except ValueError:
        return _UNKNOWN
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return _OBSERVED.pack(address.version, port or 0, address.packed)


def decode_observed_untrusted(data: bytes, scheme: str) -> str | None:
    """The endpoint that `encode_observed` was given, None if it was not literal.

    Args:
        data: 19 bytes.
        scheme: Of the endpoint to return; the bytes have none.

    Raises:
        BadPacket: They hold no address of a known family.
    """
    family, port, packed = _OBSERVED.unpack(data)
    if family == 4:
        return f"{scheme}://{ipaddress.IPv4Address(packed[:4])}:{port}"
    if family == 6:
        return f"{scheme}://[{ipaddress.IPv6Address(packed)}]:{port}"
    if family:
        raise BadPacket(f"an address of the unknown family {family}")
    return None
