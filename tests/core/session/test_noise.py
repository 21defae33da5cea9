"""The Noise handshake against public vectors, and what must fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.errors import BadHandshake, LocalProtocolError
from tunmesh.session import noise, suites

_FILE = Path(__file__).parent / "vectors" / "noise-ikpsk1-cacophony.json"
_NAMES = {
    "Noise_IKpsk1_25519_AESGCM_SHA256": suites.AES256GCM,
    "Noise_IKpsk1_25519_ChaChaPoly_SHA256": suites.CHACHA20POLY1305,
}
VECTORS = [one for one in json.loads(_FILE.read_text()) if one["protocol_name"] in _NAMES]

#: Points whose multiples are all zero, or differ from such a point by the field's prime.
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]

A, B = b"\x0a" * 32, b"\x0b" * 32
PSK = b"\x55" * 32


def pair(
    suite: int = suites.AES256GCM, *, psk: bytes = PSK, prologue: bytes = b"p"
) -> tuple[noise.Initiator, noise.Responder]:
    """Two sides; the arguments are the responder's, the initiator's are fixed."""
    return (
        noise.Initiator(suite, b"p", A, noise.public_of(B), PSK),
        noise.Responder(suite, prologue, B, noise.public_of(B), psk),
    )


def test_there_are_vectors_for_each_suite() -> None:
    assert {_NAMES[vector["protocol_name"]] for vector in VECTORS} == set(suites.NAMES)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["protocol_name"])
def test_vectors(vector: dict[str, Any]) -> None:
    def value(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    suite = _NAMES[vector["protocol_name"]]
    initiator = noise.Initiator(
        suite,
        value("init_prologue"),
        value("init_static"),
        value("init_remote_static"),
        bytes.fromhex(vector["init_psks"][0]),
        ephemeral=value("init_ephemeral"),
    )
    responder = noise.Responder(
        suite,
        value("resp_prologue"),
        value("resp_static"),
        noise.public_of(value("resp_static")),
        bytes.fromhex(vector["resp_psks"][0]),
        ephemeral=value("resp_ephemeral"),
    )
    payloads = [bytes.fromhex(message["payload"]) for message in vector["messages"]]
    ciphertexts = [bytes.fromhex(message["ciphertext"]) for message in vector["messages"]]

    request = initiator.write_request(payloads[0])
    assert request == ciphertexts[0]
    assert responder.read_static(request) == noise.public_of(value("init_static"))
    assert responder.read_payload() == payloads[0]
    response, (resp_sends, resp_receives) = responder.write_response(payloads[1])
    assert response == ciphertexts[1]
    payload, (init_sends, init_receives) = initiator.read_response(response)
    assert payload == payloads[1]
    assert (init_sends, init_receives) == (resp_receives, resp_sends)
    # Transport messages go to and fro; each key's nonces begin at zero.
    order = "big" if suite == suites.AES256GCM else "little"
    keys = (init_sends, resp_sends)
    for number, (plaintext, expected) in enumerate(zip(payloads[2:], ciphertexts[2:], strict=True)):
        nonce = bytes(4) + (number // 2).to_bytes(8, order)  # type: ignore[arg-type]
        assert suites.aead(suite, keys[number % 2]).encrypt(nonce, plaintext, b"") == expected


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_yield_no_secret(point: bytes) -> None:
    with pytest.raises(BadHandshake):
        noise.dh(A, point)
    with pytest.raises(BadHandshake):
        noise.Initiator(suites.AES256GCM, b"", A, point, PSK).write_request(b"")
    initiator, responder = pair()
    with pytest.raises(BadHandshake):
        responder.read_static(point + initiator.write_request(b"")[32:])
    with pytest.raises(BadHandshake):
        initiator.read_response(point + bytes(16))


@pytest.mark.parametrize("wrong", [{"psk": bytes(32)}, {"prologue": b"q"}])
def test_secret_and_prologue_must_agree(wrong: dict[str, bytes]) -> None:
    initiator, responder = pair(**wrong)  # type: ignore[arg-type]
    request = initiator.write_request(b"payload")
    with pytest.raises(BadHandshake):  # noqa: PT012  # the secret shows in the second step only
        responder.read_static(request)
        responder.read_payload()


@settings(max_examples=40)
@given(st.sampled_from(sorted(suites.NAMES)), st.data())
def test_a_changed_message_fails_and_leaves_no_trace(suite: int, data: st.DataObject) -> None:
    initiator, responder = pair(suite)
    request = initiator.write_request(b"first")

    def change(message: bytes) -> bytes:
        position = data.draw(st.integers(0, len(message) - 1))
        flipped = message[position] ^ data.draw(st.integers(1, 255))
        if position == 31 and flipped == message[31] ^ 0x80:
            flipped ^= 1  # the unused bit of a point is hashed, but X25519 alone ignores it
        return message[:position] + bytes((flipped,)) + message[position + 1 :]

    with pytest.raises(BadHandshake):  # noqa: PT012  # either step may notice
        twin = pair(suite)[1]
        twin.read_static(change(request))
        twin.read_payload()
    responder.read_static(request)
    responder.read_payload()
    response, keys = responder.write_response(b"second")
    for _ in range(2):
        with pytest.raises(BadHandshake):
            initiator.read_response(change(response))
    payload, (sending, receiving) = initiator.read_response(response)
    assert payload == b"second"
    assert keys == (receiving, sending)


def test_nothing_is_sealed_before_there_is_a_key() -> None:
    with pytest.raises(LocalProtocolError):
        noise._SymmetricState(suites.AES256GCM, b"").encrypt(b"payload")


def test_handshakes_share_nothing() -> None:
    secrets: set[bytes] = set()
    for _ in range(3):
        initiator, responder = pair()
        responder.read_static(initiator.write_request(b""))
        responder.read_payload()
        secrets.update(responder.write_response(b"")[1])
    assert len(secrets) == 6
