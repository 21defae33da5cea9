"""What a node publishes: read as written, bounded, and nonsense is refused."""

from __future__ import annotations

import random
import zlib
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import BadPacket
from tunmesh_multicast_igmp.attribute import (
    MOST_BYTES,
    NOTHING,
    Membership,
    decode_membership_untrusted,
    encode_membership,
)
from tunmesh_multicast_igmp.messages import Address
from tunmesh_multicast_igmp.state import Filter

ANY = Filter(True, frozenset())
groups4 = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
groups6 = st.binary(min_size=15, max_size=15).map(lambda rest: IPv6Address(b"\xff" + rest))
sources4 = st.frozensets(st.integers(0x0A000000, 0x0AFFFFFF).map(IPv4Address), max_size=8)
sources6 = st.frozensets(
    st.binary(min_size=14, max_size=14).map(lambda rest: IPv6Address(b"\xfd\x42" + rest)),
    max_size=8,
)
filters = st.dictionaries(groups4, st.builds(Filter, st.booleans(), sources4), max_size=8)
filters6 = st.dictionaries(groups6, st.builds(Filter, st.booleans(), sources6), max_size=8)


@given(filters, filters6, st.booleans())
def test_read_as_written(
    four: dict[Address, Filter], six: dict[Address, Filter], router_port: bool
) -> None:
    groups = {g: f for g, f in {**four, **six}.items() if f.exclude or f.sources}
    membership = Membership(groups, router_port)
    encoded, refused = encode_membership(membership)
    assert refused == 0
    if not encoded:
        assert membership == NOTHING
    else:
        assert decode_membership_untrusted(encoded) == membership


def test_a_thousand_groups_are_small() -> None:
    groups: dict[Address, Filter] = {ip_address(0xEF010000 + n): ANY for n in range(1024)}
    encoded, refused = encode_membership(Membership(groups))
    assert (refused, len(encoded) < 4096) == (0, True)
    assert decode_membership_untrusted(encoded).groups == groups


def test_what_does_not_fit_is_left_out_and_told() -> None:
    rng = random.Random(1)
    groups: dict[Address, Filter] = {
        IPv6Address(b"\xff" + rng.randbytes(15)): ANY for _ in range(1024)
    }
    encoded, refused = encode_membership(Membership(groups))
    assert len(encoded) <= MOST_BYTES
    kept = decode_membership_untrusted(encoded).groups
    assert len(kept) == 1024 - refused > 600
    assert list(kept) == list(groups)[: len(kept)]
    more = {ip_address(0xEF010000 + n): ANY for n in range(1100)}
    encoded, refused = encode_membership(Membership(more))
    assert (len(decode_membership_untrusted(encoded).groups), refused) == (1024, 1100 - 1024)


def packed(body: bytes, *, version: int = 1) -> bytes:
    return bytes((version, 0)) + zlib.compress(body)


@pytest.mark.parametrize(
    "attribute",
    [
        b"",
        b"\x01",
        packed(b"", version=2),
        packed(b"")[:-1],
        packed(b"") + b"more",
        b"\x01\x00nonsense",
        packed(b"\x40\xef\x01\x02"),
        packed(b"\x41\xef\x01\x02\x03"),
        packed(b"\x40\x0a\x01\x02\x03"),  # no group
        packed(b"\x00\xef\x01\x02\x03"),  # nothing is wanted of it
        packed(b"\x40\xef\x01\x02\x03" * 2),
        packed(bytes(1 << 20)),
        packed(b"".join(b"\x40" + IPv4Address(0xEF000000 + n).packed for n in range(1025))),
        bytes(MOST_BYTES + 1),
    ],
)
def test_nonsense_is_refused(attribute: bytes) -> None:
    with pytest.raises(BadPacket):
        decode_membership_untrusted(attribute)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_raise_only_bad_packet(body: bytes, framed: bool) -> None:
    try:
        decode_membership_untrusted(packed(body) if framed else body)
    except BadPacket:
        return
