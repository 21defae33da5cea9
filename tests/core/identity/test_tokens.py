from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import BadToken, StaleToken
from tunmesh.identity.secrets import Keyring
from tunmesh.identity.tokens import LEEWAY, LIFETIME, MAX_TOKEN, Tokens

SECRET = b"the-secret-of-the-mesh-0123456789abcdef"
OTHER = b"another-secret-0123456789abcdefghijklmno"
SENDER, RECEIVER = "a" * 32, "b" * 32
BOUND = {"htm": "GET", "htu": "/tunmesh/v1/stream", "bh": "body", "cb": "certificate"}


class Clocks:
    """The wall clock, and the one that never jumps."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.boot = 1000.0

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


def node(
    clocks: Clocks, node_id: str = RECEIVER, *, secrets: tuple[bytes, ...] = (SECRET,),
    mesh: str = "test",
) -> Tokens:  # fmt: skip
    keyring = Keyring(list(secrets), mesh)
    wall, clock = (lambda: clocks.wall), (lambda: clocks.boot)
    return Tokens(node_id, b"\1" * 8, keyring, wall=wall, clock=clock)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def issue(clocks: Clocks, **claims: Any) -> str:
    return node(clocks, SENDER).issue("request", {**BOUND, **claims})[0]


# ------------------------------------------------------------------ what is accepted


def test_a_token_carries_who_when_and_what_it_is_bound_to(clocks: Clocks) -> None:
    text, token_id = node(clocks, SENDER).issue("request", BOUND)
    claims = node(clocks).verify("request", text, BOUND)
    assert claims == {
        "iss": SENDER,
        "aud": claims["aud"],
        "iat": 1_700_000_000,
        "exp": 1_700_000_000 + LIFETIME,
        "jti": token_id,
        "bid": "01" * 8,
        **BOUND,
    }
    header = jwt.get_unverified_header(text)
    assert {"alg": "HS256", "typ": "tmreq+jwt"}.items() <= header.items()
    assert set(header) == {"alg", "typ", "kid"}


def test_one_of_several_values_will_do(clocks: Clocks) -> None:
    either = frozenset({"older", "certificate"})
    assert node(clocks).verify("request", issue(clocks), {"cb": either})
    with pytest.raises(BadToken, match="another cb"):
        node(clocks).verify("request", issue(clocks), {"cb": frozenset({"older"})})


def test_all_secrets_of_the_keyring_are_accepted_and_the_first_signs(clocks: Clocks) -> None:
    old = node(clocks, SENDER, secrets=(SECRET,))
    new = node(clocks, secrets=(OTHER, SECRET))
    assert new.verify("request", old.issue("request", BOUND)[0], BOUND)
    with pytest.raises(BadToken):
        old.verify("request", new.issue("request", BOUND)[0], BOUND)


def test_an_answer_is_for_one_node_and_repeats_the_id_of_its_request(clocks: Clocks) -> None:
    _, token_id = node(clocks, SENDER).issue("request", BOUND)
    answer, _ = node(clocks).issue("answer", {"aud": SENDER, "rj": token_id, "st": 101})
    expected: dict[str, str | int] = {"aud": SENDER, "rj": token_id, "st": 101}
    assert node(clocks, SENDER).verify("answer", answer, expected)["iss"] == RECEIVER
    others: list[dict[str, str | int]] = [{"rj": "x"}, {"st": 200}, {"st": "101"}]
    for other in others:
        with pytest.raises(BadToken):
            node(clocks, SENDER).verify("answer", answer, {**expected, **other})
    with pytest.raises(BadToken, match="somebody else"):
        node(clocks, "c" * 32).verify("answer", answer, {"rj": token_id})
    with pytest.raises(BadToken, match="header"):
        node(clocks, SENDER).verify("request", answer, {})


# ------------------------------------------------------------------ what is forged


def encode(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


KEYS = Keyring([SECRET], "test").current
HEADER = {"alg": "HS256", "kid": KEYS.psk_id.hex(), "typ": "tmreq+jwt"}


def signed(header: Any, claims: Any, key: bytes = KEYS.jwt) -> str:
    text = f"{encode(header)}.{encode(claims)}"
    return f"{text}.{encode(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def _good_claims(now: int) -> dict[str, Any]:
    return {
        "iss": SENDER,
        "aud": f"mesh:{KEYS.mesh_id.hex()}",
        "iat": now,
        "exp": now + LIFETIME,
        "jti": "j" * 22,
        "bid": "01" * 8,
        **BOUND,
    }


NOW = 1_700_000_000
GOOD = _good_claims(NOW)
_ED = Ed25519PrivateKey.generate()
_PEM = _ED.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def raw_json(claims: dict[str, Any], old: str, new: str) -> bytes:
    text = json.dumps(claims, separators=(",", ":"))
    assert old in text
    return text.replace(old, new).encode()


def tampered(change: Callable[[str, str, str], str]) -> str:
    return change(*signed(HEADER, GOOD).split("."))


def last_bits(header: str, payload: str, signature: str) -> str:
    """The unused bits of the last character of a signature of 32 bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return f"{header}.{payload}.{signature[:-1]}{alphabet[alphabet.index(signature[-1]) ^ 1]}"


FORGED = {
    "alg none": f"{encode({**HEADER, 'alg': 'none'})}.{encode(GOOD)}.",
    "alg none in another spelling": f"{encode({**HEADER, 'alg': 'nOnE'})}.{encode(GOOD)}.",
    "no signature": f"{encode(HEADER)}.{encode(GOOD)}.",
    "EdDSA": jwt.encode(GOOD, _ED, "EdDSA", {"typ": "tmreq+jwt", "kid": KEYS.psk_id.hex()}),
    "HS512": jwt.encode(GOOD, KEYS.jwt * 2, "HS512", {"kid": HEADER["kid"], "typ": "tmreq+jwt"}),
    "signed with a public key in PEM": signed(HEADER, GOOD, _PEM),
    "signed with the public mesh id": signed(HEADER, GOOD, KEYS.mesh_id),
    "signed with another secret": signed(HEADER, GOOD, Keyring([OTHER], "test").current.jwt),
    "the key of another mesh name": signed(HEADER, GOOD, Keyring([SECRET], "x").current.jwt),
    "signed with an empty key": signed(HEADER, GOOD, b""),
    "another kid": signed({**HEADER, "kid": "00000000"}, GOOD),
    "no kid": signed({"alg": "HS256", "typ": "tmreq+jwt"}, GOOD),
    "another typ": signed({**HEADER, "typ": "JWT"}, GOOD),
    "a record's typ": signed({**HEADER, "typ": "tmrec+jwt"}, GOOD),
    "an answer's typ": signed({**HEADER, "typ": "tmrsp+jwt"}, GOOD),
    "crit": signed({**HEADER, "crit": ["x"], "x": 1}, GOOD),
    "b64 false": signed({**HEADER, "b64": False, "crit": ["b64"]}, GOOD),
    "jwk in the header": signed({**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}}, GOOD),
    "header in another order": signed(dict(reversed(HEADER.items())), GOOD),
    "header with spaces": signed(json.dumps(HEADER).encode(), GOOD),
    **{f"no {name}": signed(HEADER, without(name)) for name in GOOD},
    "aud as a list": signed(HEADER, {**GOOD, "aud": [GOOD["aud"]]}),
    "another aud": signed(HEADER, {**GOOD, "aud": "c" * 32}),
    "another mesh": signed(HEADER, {**GOOD, "aud": "mesh:" + "0" * 32}),
    "another method": signed(HEADER, {**GOOD, "htm": "POST"}),
    "another path": signed(HEADER, {**GOOD, "htu": "/tunmesh/v1/node"}),
    "another body": signed(HEADER, {**GOOD, "bh": "x"}),
    "another certificate": signed(HEADER, {**GOOD, "cb": "x"}),
    "exp as a string": signed(HEADER, {**GOOD, "exp": str(NOW + 60)}),
    "exp infinite": signed(HEADER, raw_json(GOOD, str(NOW + 60), "Infinity")),
    "exp not a number": signed(HEADER, raw_json(GOOD, str(NOW + 60), "NaN")),
    "exp as a fraction": signed(HEADER, raw_json(GOOD, str(NOW + 60), f"{NOW + 60}.5")),
    "exp in a hundred years": signed(HEADER, {**GOOD, "exp": NOW + 3_000_000_000}),
    "exp before iat": signed(HEADER, {**GOOD, "exp": NOW - 1}),
    "iat true": signed(HEADER, {**GOOD, "iat": True}),
    "iss null": signed(HEADER, {**GOOD, "iss": None}),
    "claims are a list": signed(HEADER, [GOOD]),
    "claims are no JSON": signed(HEADER, b"\xff{}"),
    "a claim twice": signed(HEADER, raw_json(GOOD, '"iss":', '"iss":"x","iss":')),
    "claims with spaces": signed(HEADER, json.dumps(GOOD).encode()),
    "unused bits of the signature": tampered(last_bits),
    "padding": tampered(lambda h, p, s: f"{h}.{p}.{s}="),
    "junk in the signature": tampered(lambda h, p, s: f"{h}.{p}.{s[:5]}\n{s[5:]}"),
    "a signature cut short": tampered(lambda h, p, s: f"{h}.{p}.{s[:-4]}"),
    "a fourth part": signed(HEADER, GOOD) + ".x",
    "too long": signed(HEADER, {**GOOD, "x": "y" * MAX_TOKEN}),
    "not ASCII": signed(HEADER, GOOD) + "é",
    "empty": "",
}


def test_the_table_starts_from_a_good_token(clocks: Clocks) -> None:
    assert node(clocks).verify("request", signed(HEADER, GOOD), BOUND) == GOOD


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused(clocks: Clocks, name: str) -> None:
    verifier = node(clocks)
    with pytest.raises(BadToken) as caught:
        verifier.verify("request", FORGED[name], BOUND)
    assert not isinstance(caught.value, StaleToken)  # a nonce is for members only


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: signed(HEADER, data)))
def test_anything_else_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(BadToken):
        node(Clocks()).verify("request", text, {})


# ------------------------------------------------------------------ time and replay


def test_a_token_is_good_once(clocks: Clocks) -> None:
    verifier, text = node(clocks), issue(clocks)
    verifier.verify("request", text, BOUND)
    with pytest.raises(BadToken, match="used before"):
        verifier.verify("request", text, BOUND)
    clocks.advance(LIFETIME + LEEWAY)  # as long as its time would let it pass
    with pytest.raises(BadToken, match="used before"):
        verifier.verify("request", text, BOUND)


@pytest.mark.parametrize("skew", [-LEEWAY, 0, LIFETIME + LEEWAY])
def test_clocks_may_differ_a_little(clocks: Clocks, skew: int) -> None:
    text = issue(clocks)
    clocks.wall += skew
    assert node(clocks).verify("request", text, BOUND)


@pytest.mark.parametrize("skew", [-(10**9), -LEEWAY - 1, LIFETIME + LEEWAY + 1, 10**9])
def test_a_clock_that_is_wrong_costs_one_more_request(clocks: Clocks, skew: int) -> None:
    theirs = Clocks()
    theirs.wall -= skew
    verifier, sender = node(clocks), node(theirs, SENDER)
    with pytest.raises(StaleToken) as caught:
        verifier.verify("request", sender.issue("request", BOUND)[0], BOUND, source=b"here")
    text, _ = sender.issue("request", {**BOUND, "nonce": caught.value.nonce})
    assert verifier.verify("request", text, BOUND, source=b"here")
    with pytest.raises(BadToken, match="used before"):
        verifier.verify("request", text, BOUND, source=b"here")


def test_a_nonce_is_for_one_source_and_a_short_time(clocks: Clocks) -> None:
    verifier, sender = node(clocks), node(clocks, SENDER)
    stale = issue(clocks)
    clocks.advance(1000)
    with pytest.raises(StaleToken) as caught:
        verifier.verify("request", stale, BOUND, source=b"here")
    bound = {**BOUND, "nonce": caught.value.nonce}
    with pytest.raises(StaleToken):
        verifier.verify("request", sender.issue("request", bound)[0], BOUND, source=b"there")
    clocks.advance(20)
    another = node(clocks, "c" * 32)  # behind the same load balancer
    assert another.verify("request", sender.issue("request", bound)[0], BOUND, source=b"here")
    clocks.advance(61)
    with pytest.raises(StaleToken):
        verifier.verify("request", sender.issue("request", bound)[0], BOUND, source=b"here")


def test_when_memory_is_full_a_nonce_is_asked_for(clocks: Clocks) -> None:
    verifier = node(clocks)
    verifier._seen._most_of_one = 3
    for _ in range(3):
        verifier.verify("request", issue(clocks), BOUND)
    with pytest.raises(StaleToken) as caught:
        verifier.verify("request", issue(clocks), BOUND)
    assert verifier.verify("request", issue(clocks, nonce=caught.value.nonce), BOUND)
    others = node(clocks, "d" * 32).issue("request", BOUND)[0]
    assert verifier.verify("request", others, BOUND), "one issuer does not use it up for others"


# ------------------------------------------------------------------- several secrets

NEW_SECRET = b"the secret that comes after, in tests of tokens"


def kid(token: str) -> str:
    found: str = jwt.get_unverified_header(token)["kid"]
    return found


def test_each_attempt_signs_with_the_next_secret(clocks: Clocks) -> None:
    ring = Keyring([NEW_SECRET, SECRET], "test")
    tokens = node(clocks, SENDER, secrets=(NEW_SECRET, SECRET))
    assert tokens.attempts == 2
    kids = [kid(tokens.issue("request", BOUND, attempt)[0]) for attempt in range(3)]
    first, second = (keys.psk_id.hex() for keys in ring.all)
    assert kids == [first, second, first]


def test_a_node_without_the_first_secret_takes_the_second_attempt(clocks: Clocks) -> None:
    tokens, other = node(clocks, SENDER, secrets=(NEW_SECRET, SECRET)), node(clocks)
    with pytest.raises(BadToken):
        other.verify("request", tokens.issue("request", BOUND)[0], BOUND)
    assert other.verify("request", tokens.issue("request", BOUND, 1)[0], BOUND)["iss"] == SENDER


def test_an_answer_is_signed_as_the_request_was(clocks: Clocks) -> None:
    asker, other = node(clocks, SENDER), node(clocks, secrets=(NEW_SECRET, SECRET))
    other.verify("request", asker.issue("request", BOUND)[0], BOUND)
    answer, _ = other.issue("answer", {**BOUND, "aud": SENDER})
    assert asker.verify("answer", answer, BOUND)["iss"] == RECEIVER


def test_the_secrets_may_change(clocks: Clocks) -> None:
    one, other = node(clocks, SENDER), node(clocks)
    one.set_keyring(Keyring([NEW_SECRET], "test"))
    assert one.attempts == 1
    token, _ = one.issue("request", BOUND)
    with pytest.raises(BadToken):
        other.verify("request", token, BOUND)
    other.set_keyring(Keyring([SECRET, NEW_SECRET], "test"))
    other.verify("request", token, BOUND)
