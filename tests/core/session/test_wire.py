"""Codecs: random bytes raise nothing but BadPacket, and sizes are what they are said to be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunmesh.errors import BadPacket
from tunmesh.session import payload, wire

DECODERS: list[tuple[Callable[[bytes], object], int, int]] = [
    (wire.decode_init_untrusted, wire.INIT, wire.INIT_SIZE),
    (wire.decode_resp_untrusted, wire.RESP, wire.RESP_SIZE),
    (wire.decode_cookie_untrusted, wire.COOKIE, wire.COOKIE_SIZE),
    (wire.decode_key_query_untrusted, wire.KEYQ, wire.KEYQ_SIZE),
    (wire.decode_key_reply_untrusted, wire.KEYR, wire.KEYR_SIZE),
]


@given(st.sampled_from(DECODERS), st.data())
def test_random_bytes_decode_or_are_bad(
    decoder: tuple[Callable[[bytes], object], int, int], data: st.DataObject
) -> None:
    decode, kind, size = decoder
    head = bytes((kind, wire.VERSION, data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))))
    body = data.draw(st.binary(min_size=size - 4, max_size=size - 4))
    with contextlib.suppress(BadPacket):
        decode(head + body)


@pytest.mark.parametrize(("decode", "kind", "size"), DECODERS)
def test_every_other_length_is_bad(decode: Callable[[bytes], object], kind: int, size: int) -> None:
    for length in [*range(size), *range(size + 1, size + 40)]:
        with pytest.raises(BadPacket):
            decode(bytes((kind, wire.VERSION)).ljust(length, b"\1")[:length])


@pytest.mark.parametrize(("decode", "kind", "size"), DECODERS)
def test_every_other_type_is_bad(decode: Callable[[bytes], object], kind: int, size: int) -> None:
    for other in set(range(256)) - {kind}:
        with pytest.raises(BadPacket):
            decode(bytes((other, wire.VERSION, 1, 0)).ljust(size, b"\1"))


def test_answers_are_smaller_than_what_they_answer() -> None:
    assert wire.KEYR_SIZE < wire.KEYQ_SIZE
    assert wire.COOKIE_SIZE < wire.RESP_SIZE < wire.INIT_SIZE


def test_headers_and_bodies_have_the_sizes_of_the_layout() -> None:
    assert len(wire.encode_init_header(1, 2, b"psk!")) == wire.INIT_PROLOGUE_SIZE
    assert len(wire.encode_resp_header(1, 2, 3)) == 12
    assert len(wire.encode_cookie_header(1, 2)) == 8
    assert len(wire.encode_key_query(1, bytes(16))) == wire.KEYQ_SIZE - wire.MAC_SIZE
    assert len(wire.encode_key_reply(1, bytes(32), 3)) == wire.KEYR_SIZE - wire.MAC_SIZE


INIT_PAYLOADS = st.builds(
    payload.InitPayload,
    timestamp=st.integers(0, 2**64 - 1),
    boot_id=st.binary(min_size=8, max_size=8),
    node_id=st.binary(min_size=16, max_size=16),
    challenge=st.binary(min_size=16, max_size=16),
    highest_version=st.integers(0, 255),
    suites=st.integers(0, 2**16 - 1),
    capabilities=st.integers(0, 2**16 - 1),
    max_datagram=st.integers(0, 2**16 - 1),
)
RESP_PAYLOADS = st.builds(
    payload.RespPayload,
    sender=st.integers(0, 2**32 - 1),
    receiver=st.integers(0, 2**32 - 1),
    boot_id=st.binary(min_size=8, max_size=8),
    node_id=st.binary(min_size=16, max_size=16),
    highest_version=st.integers(0, 255),
    suites=st.integers(0, 2**16 - 1),
    capabilities=st.integers(0, 2**16 - 1),
    max_datagram=st.integers(0, 2**16 - 1),
    observed=st.binary(min_size=19, max_size=19),
)


@given(INIT_PAYLOADS)
def test_init_payloads_round_trip(value: payload.InitPayload) -> None:
    encoded = payload.encode_init_payload(value)
    assert len(encoded) == payload.INIT_PAYLOAD_SIZE
    assert payload.decode_init_payload_untrusted(encoded) == value


@given(RESP_PAYLOADS)
def test_resp_payloads_round_trip(value: payload.RespPayload) -> None:
    encoded = payload.encode_resp_payload(value)
    assert len(encoded) == payload.RESP_PAYLOAD_SIZE
    assert payload.decode_resp_payload_untrusted(encoded) == value


@given(st.binary(max_size=100))
@example(b"\1" * payload.INIT_PAYLOAD_SIZE)
@example(b"\1" * payload.RESP_PAYLOAD_SIZE)
def test_random_payloads_decode_or_are_bad(data: bytes) -> None:
    decoders: tuple[Callable[[bytes], object], ...] = (
        payload.decode_init_payload_untrusted,
        payload.decode_resp_payload_untrusted,
    )
    for decode in decoders:
        with contextlib.suppress(BadPacket):
            decode(data)


@pytest.mark.parametrize(
    ("endpoint", "observed"),
    [
        ("udp://10.0.0.1:4567", "udp://10.0.0.1:4567"),
        ("udp://[fd00::1]:4567", "udp://[fd00::1]:4567"),
        ("udp://[fe80::1%eth0]:4567", "udp://[fe80::1]:4567"),
        ("udp://[::ffff:10.0.0.1]:4567", "udp://10.0.0.1:4567"),
        ("https://10.0.0.1", "udp://10.0.0.1:0"),
        ("memory://a:1", None),
        ("udp://10.0.0.1:99999", None),
        ("udp://[broken", None),
        ("", None),
    ],
)
def test_observed_endpoints(endpoint: str, observed: str | None) -> None:
    encoded = payload.encode_observed(endpoint)
    assert payload.decode_observed_untrusted(encoded, "udp") == observed


@given(st.binary(min_size=19, max_size=19))
def test_random_observed_endpoints_decode_or_are_bad(data: bytes) -> None:
    try:
        payload.decode_observed_untrusted(data, "udp")
    except BadPacket:
        assert data[0] not in {0, 4, 6}
