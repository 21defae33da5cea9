from __future__ import annotations

import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_decode, base64url_encode

from tests.core.membership.gossip import node_key
from tunmesh.errors import BadPacket
from tunmesh.membership.fields import clean_name
from tunmesh.membership.records import (
    MAX_SEQ,
    NodeRecord,
    Profile,
    RecordVerifier,
    decode_record_untrusted,
    sign_record,
)
from tunmesh.membership.tokens import MAX_TOKEN

SEED = bytes(range(32))
KEY = node_key(int.from_bytes(SEED, "big"))
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
HEADER = {"alg": "EdDSA", "typ": "tmrec+jwt"}
BOOT = "00112233aabbccdd"
PROFILE = Profile(
    name="alpha",
    addresses=("10.42.1.1/24", "fd42::1/64"),
    subnets=(("192.168.0.0/16", 5),),
    endpoints=("udp://10.0.0.1:4567", "udp://[fd00::1]:4567"),
    transports=("udp",),
    versions={"tunmesh": "0.1.0"},
    attributes={"igmp": b"\x00\xff"},
    relay=True,
)


def record(seq: int = 7, **changes: Any) -> NodeRecord:
    return sign_record(KEY, PROFILE, held_s=(1.5, 0.0), seq=seq, boot_id=BOOT, **changes)


def claims() -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64url_decode(record().token.split(".")[1]))
    return payload


def encode(segment: object) -> str:
    return base64url_encode(json.dumps(segment, separators=(",", ":")).encode()).decode()


def forge(payload: object, header: object = HEADER, private: Ed25519PrivateKey = PRIVATE) -> str:
    """A token of whatever content, with a good signature."""
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{base64url_encode(private.sign(signed.encode())).decode()}"


def test_round_trip() -> None:
    signed = record()
    assert decode_record_untrusted(signed.token) == signed
    assert signed.node_id == KEY.node_id
    assert signed.x25519 == KEY.x25519_public
    assert signed.hosts == (bytes([10, 42, 1, 1]), bytes.fromhex("fd42" + "0" * 27 + "1"))
    assert signed.summary[:16].hex() == signed.node_id
    assert signed.attributes == {"igmp": b"\x00\xff"}
    assert record(left=True).left


def test_a_jwt_library_reads_it() -> None:
    token = record().token
    assert jwt.get_unverified_header(token) == HEADER
    key = Ed25519PublicKey.from_public_bytes(KEY.ed25519_public)
    assert jwt.decode(token, key, algorithms=["EdDSA"]) == claims()


def test_forge_makes_what_sign_makes() -> None:
    assert decode_record_untrusted(forge(claims())).seq == 7


def test_unknown_claims_and_times_are_left_alone() -> None:
    token = forge({**claims(), "iat": 2**40, "exp": 1, "later": {"a": [1]}})
    assert decode_record_untrusted(token).seq == 7


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"alg": "none", "typ": "tmrec+jwt"},
        {"alg": "HS256", "typ": "tmrec+jwt"},
        {"alg": "EdDSA"},
        {"alg": "EdDSA", "typ": "JWT"},
        {"typ": "tmrec+jwt", "alg": "EdDSA"},
        {**HEADER, "kid": "a"},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "jwk": {}},
    ],
)
def test_any_other_header_is_refused(header: object) -> None:
    with pytest.raises(BadPacket, match="header"):
        decode_record_untrusted(forge(claims(), header))


def test_signature_by_another_key_is_refused() -> None:
    with pytest.raises(BadPacket, match="verify"):
        decode_record_untrusted(forge(claims(), private=Ed25519PrivateKey.generate()))


def test_hmac_with_the_public_key_is_refused() -> None:
    signed = f"{encode(HEADER)}.{encode(claims())}"
    for digest in ("sha256", "sha512"):
        mac = hmac.digest(KEY.ed25519_public, signed.encode(), digest)
        with pytest.raises(BadPacket):
            decode_record_untrusted(f"{signed}.{base64url_encode(mac).decode()}")


def test_second_spelling_of_a_signature_is_refused() -> None:
    token = record().token
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last character of 64 bytes carries two bits only.
    other = alphabet[alphabet.index(token[-1]) ^ 1]
    for spelling in (token[:-1] + other, token + "=", token + "!", token + "\n", " " + token):
        with pytest.raises(BadPacket):
            decode_record_untrusted(spelling)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("key", ""),
        ("key", "AAAA"),
        ("key", "A" * 42 + "E="),  # low order
        ("boot", "xyz"),
        ("boot", "00112233AABBCCDD"),
        ("seq", 0),
        ("seq", -1),
        ("seq", MAX_SEQ + 1),
        ("seq", "7"),
        ("seq", 7.5),
        ("seq", True),
        ("name", 5),
        ("name", "x" * 256),
        ("addresses", [["10.42.1.1/33", 0]]),
        ("addresses", [["10.42.1.1/0", 0]]),
        ("addresses", [["0.0.0.0/8", 0]]),
        ("addresses", [["127.0.0.1/8", 0]]),
        ("addresses", [["224.0.0.1/8", 0]]),
        ("addresses", [["255.255.255.255/32", 0]]),
        ("addresses", [["::/64", 0]]),
        ("addresses", [["ff02::1/64", 0]]),
        ("addresses", [["fe80::1%eth0/64", 0]]),
        ("addresses", [["::ffff:10.0.0.1/128", 0]]),
        ("addresses", [["10.42.1.1/24", -1]]),
        ("addresses", [["10.42.1.1/24", "0"]]),
        ("addresses", [["10.42.1.1/24", 0], ["10.42.1.1/16", 0]]),
        ("addresses", [["10.42.1.1/24"]]),
        ("addresses", [[f"10.42.1.{i}/24", 0] for i in range(1, 66)]),
        ("subnets", [["10.0.0.1/8", 0]]),
        ("subnets", [["10.0.0.0/8", -1]]),
        ("subnets", [["224.0.0.0/4", 0]]),
        ("subnets", [["::ffff:0:0/96", 0]]),
        ("endpoints", ["10.0.0.1:4567"]),
        ("endpoints", ["udp://a b"]),
        ("endpoints", ["udp://\x1b[31m"]),
        ("endpoints", ["udp://" + "a" * 300]),
        ("endpoints", ["udp://a:1"] * 65),
        ("transports", [""]),
        ("versions", {"tunmesh": "x" * 65}),
        ("attributes", {"igmp": "no base64!"}),
        ("attributes", {str(i): "" for i in range(33)}),
        ("relay", 1),
        ("left", "no"),
    ],
)
def test_bad_claims_are_refused(claim: str, value: object) -> None:
    with pytest.raises(BadPacket):
        decode_record_untrusted(forge({**claims(), claim: value}))


@pytest.mark.parametrize("payload", [[], 5, None, {}, {"key": KEY.ed25519_public.hex()}])
def test_payload_that_is_no_record_is_refused(payload: object) -> None:
    with pytest.raises(BadPacket):
        decode_record_untrusted(forge(payload))


def test_deep_payload_is_refused() -> None:
    payload = b'{"later":' + b"[" * 10_000
    with pytest.raises(BadPacket):
        decode_record_untrusted(f"{encode(HEADER)}.{base64url_encode(payload).decode()}.{'A' * 86}")


def test_long_token_is_refused_and_never_signed() -> None:
    with pytest.raises(BadPacket, match="long"):
        decode_record_untrusted("a" * (MAX_TOKEN + 1))
    big = Profile(name="a", attributes={str(i): bytes(8000) for i in range(4)})
    with pytest.raises(BadPacket, match="long"):
        sign_record(KEY, big, held_s=(), seq=1, boot_id=BOOT)


@given(st.text(max_size=300))
def test_random_text_raises_only_bad_packet(text: str) -> None:
    with pytest.raises(BadPacket):
        decode_record_untrusted(text)


@given(st.data())
def test_changed_token_raises_only_bad_packet(data: st.DataObject) -> None:
    token = record().token
    position = data.draw(st.integers(0, len(token) - 1))
    changed = token[:position] + data.draw(st.characters()) + token[position + 1 :]
    if changed != token:
        with pytest.raises(BadPacket):
            decode_record_untrusted(changed)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)
def test_signed_nonsense_raises_only_bad_packet(value: object) -> None:
    for claim in claims():
        try:
            decode_record_untrusted(forge({**claims(), claim: value}))
        except BadPacket:
            continue


def test_names_are_cleaned_on_arrival() -> None:
    token = forge({**claims(), "name": "Web_1\x1b[31m.Example.COM"})
    assert decode_record_untrusted(token).name == "web-1--31m"
    nameless = decode_record_untrusted(forge({**claims(), "name": ".x"}))
    assert nameless.name == nameless.node_id[:8]


@given(st.text())
def test_clean_names_stay_clean(text: str) -> None:
    name = clean_name(text)
    assert len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert clean_name(name) == name


def test_order_is_by_number_then_by_hash() -> None:
    old, new = record(7), record(8)
    assert new.supersedes(old)
    assert not old.supersedes(new)
    assert not new.supersedes(new)
    twin = sign_record(KEY, Profile(name="other"), held_s=(), seq=8, boot_id=BOOT)
    assert twin.supersedes(new) != new.supersedes(twin)


def test_verifier_remembers_and_is_bounded() -> None:
    verifier = RecordVerifier(cache_size=2)
    tokens = [record(seq).token for seq in (1, 2, 3)]
    first = verifier.verify(tokens[0])
    assert verifier.verify(tokens[0]) is first
    verifier.verify(tokens[1])
    verifier.verify(tokens[2])
    assert verifier.verify(tokens[0]) is not first
    for _ in range(2):
        with pytest.raises(BadPacket):
            verifier.verify(tokens[0][:-4])
