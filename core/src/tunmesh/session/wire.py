"""The messages outside of any session. Big-endian; sizes in bytes.

::

    header: type 1 | version 1 | suite 1 | flags 1          suite and flags are zero unless said

    1 INIT 204    header | sender index 4 | psk id 4 | noise 160 | mac1 16 | mac2 16
    2 RESP 188    header | sender index 4 | receiver index 4 | noise 144 | mac1 16 | mac2 16 (zero)
    3 COOKIE 64   header, flags = kind | receiver index 4 | nonce 24 | sealed 32
    5 KEYQ 96     header | sender index 4 | random 16 | reserved 56 | mac 16
    6 KEYR 80     header | receiver index 4 | static 32 | highest version 1 | suites 2
                  | reserved 21 | mac 16

INIT and RESP carry the suite of the session. No answer is larger than what it answers. MACs are
checked elsewhere; the layouts of KEYQ and KEYR are the same in every version.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tunmesh.errors import BadPacket
from tunmesh.session.suites import NAMES

VERSION: Final = 1

INIT, RESP, COOKIE, KEYQ, KEYR = 1, 2, 3, 5, 6
INIT_SIZE, RESP_SIZE, COOKIE_SIZE, KEYQ_SIZE, KEYR_SIZE = 204, 188, 64, 96, 80

MAC_SIZE: Final = 16
NO_MAC: Final = bytes(MAC_SIZE)
#: Bytes of an INIT that take part in the prologue of the handshake.
INIT_PROLOGUE_SIZE: Final = 12

_INIT = struct.Struct(">BBBBI4s160s16s16s")
_RESP = struct.Struct(">BBBBII144s16s16s")
_COOKIE = struct.Struct(">BBBBI24s32s")
_KEYQ = struct.Struct(">BBBBI16s56x16s")
_KEYR = struct.Struct(">BBBBI32sBH21x16s")


@dataclass(frozen=True, slots=True)
class Init:
    """A request for a session."""

    suite: int
    sender: int
    psk_id: bytes
    noise: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class Resp:
    """The answer to an `Init`."""

    suite: int
    sender: int
    receiver: int
    noise: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class Cookie:
    """The answer to an `Init` that asks for another one."""

    kind: int
    receiver: int
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """The question for a node's static key."""

    sender: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class KeyReply:
    """The answer to a `KeyQuery`."""

    receiver: int
    static: bytes
    highest_version: int
    suites: int
    mac: bytes


def encode_init_header(suite: int, sender: int, psk_id: bytes) -> bytes:
    """What stands before the noise message of an INIT."""
    return struct.pack(">BBBBI4s", INIT, VERSION, suite, 0, sender, psk_id)


def encode_resp_header(suite: int, sender: int, receiver: int) -> bytes:
    """What stands before the noise message of a RESP."""
    return struct.pack(">BBBBII", RESP, VERSION, suite, 0, sender, receiver)


def encode_cookie_header(kind: int, receiver: int) -> bytes:
    """What stands before the nonce of a COOKIE."""
    return struct.pack(">BBBBI", COOKIE, VERSION, 0, kind, receiver)


def encode_key_query(sender: int, random: bytes) -> bytes:
    """A KEYQ without its MAC."""
    return _KEYQ.pack(KEYQ, VERSION, 0, 0, sender, random, NO_MAC)[:-MAC_SIZE]


def encode_key_reply(receiver: int, static: bytes, suites: int) -> bytes:
    """A KEYR without its MAC."""
    packed = _KEYR.pack(KEYR, VERSION, 0, 0, receiver, static, VERSION, suites, NO_MAC)
    return packed[:-MAC_SIZE]


def decode_init_untrusted(data: bytes) -> Init:
    """Take an INIT apart."""
    if len(data) != INIT_SIZE:
        raise BadPacket(f"an INIT of {len(data)} bytes")
    kind, version, suite, flags, sender, psk_id, noise, mac1, mac2 = _INIT.unpack(data)
    if (kind, version, flags) != (INIT, VERSION, 0) or suite not in NAMES or not sender:
        raise BadPacket("a malformed INIT")
    return Init(suite, sender, psk_id, noise, mac1, mac2)


def decode_resp_untrusted(data: bytes) -> Resp:
    """Take a RESP apart."""
    if len(data) != RESP_SIZE:
        raise BadPacket(f"a RESP of {len(data)} bytes")
    kind, version, suite, flags, sender, receiver, noise, mac1, mac2 = _RESP.unpack(data)
    if (kind, version, flags) != (RESP, VERSION, 0) or suite not in NAMES or not sender:
        raise BadPacket("a malformed RESP")
    return Resp(suite, sender, receiver, noise, mac1, mac2)


def decode_cookie_untrusted(data: bytes) -> Cookie:
    """Take a COOKIE apart."""
    if len(data) != COOKIE_SIZE:
        raise BadPacket(f"a COOKIE of {len(data)} bytes")
    kind, version, suite, flags, receiver, nonce, sealed = _COOKIE.unpack(data)
    if (kind, version, suite) != (COOKIE, VERSION, 0):
        raise BadPacket("a malformed COOKIE")
    return Cookie(flags, receiver, nonce, sealed)


def decode_key_query_untrusted(data: bytes) -> KeyQuery:
    """Take a KEYQ of any version apart."""
    if len(data) != KEYQ_SIZE or data[0] != KEYQ:
        raise BadPacket(f"a malformed KEYQ of {len(data)} bytes")
    _, _, _, _, sender, _, mac = _KEYQ.unpack(data)
    return KeyQuery(sender, mac)


def decode_key_reply_untrusted(data: bytes) -> KeyReply:
    """Take a KEYR of any version apart."""
    if len(data) != KEYR_SIZE or data[0] != KEYR:
        raise BadPacket(f"a malformed KEYR of {len(data)} bytes")
    _, _, _, _, receiver, static, highest_version, suites, mac = _KEYR.unpack(data)
    return KeyReply(receiver, static, highest_version, suites, mac)
