"""A node record's outer form: a compact JSON Web Signature by the node's own key.

One algorithm, one type, one spelling: the header is compared as text, before anything is parsed,
and the signature must be in its canonical encoding, so that nobody can make a second token out of
a first one.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt import PyJWS
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode, base64url_encode

from tunmesh.errors import BadPacket

#: Bytes of the longest token: with its framing it fits one message of `messages.MAX_MESSAGE`.
MAX_TOKEN = 31 * 1024

_ALGORITHM = "EdDSA"
_HEADER = base64url_encode(b'{"alg":"EdDSA","typ":"tmrec+jwt"}').decode()
_SIGNATURE = 64
_JWS = PyJWS(algorithms=[_ALGORITHM])


class Signer(Protocol):
    """What signs: a node's key."""

    def sign(self, message: bytes) -> bytes: ...


def sign_token(signer: Signer, payload: bytes) -> str:
    """The compact serialization of `payload`, signed."""
    signed = f"{_HEADER}.{base64url_encode(payload).decode()}"
    return f"{signed}.{base64url_encode(signer.sign(signed.encode())).decode()}"


def payload_untrusted(token: str) -> bytes:
    """The payload of a token whose signature is *not* checked yet.

    Raises:
        BadPacket: The token is not of the one form that `sign_token` makes.
    """
    if len(token) > MAX_TOKEN or not token.isascii():
        raise BadPacket("record token too long or not ASCII")
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != _HEADER:
        raise BadPacket("record token with another header")
    payload = _canonical(parts[1])
    if len(_canonical(parts[2])) != _SIGNATURE:
        raise BadPacket("record token whose signature has a wrong size")
    return payload


def check_signature_untrusted(token: str, ed25519_public: bytes) -> None:
    """Check a token's signature.

    Raises:
        BadPacket: The key is none, or did not sign this token.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(ed25519_public)
        _JWS.decode(token, key, algorithms=[_ALGORITHM])
    except (ValueError, PyJWTError) as error:
        raise BadPacket(f"record token does not verify: {error}") from error


def _canonical(text: str) -> bytes:
    """Decode base64url of which only one spelling is accepted (Python's decoder skips junk)."""
    try:
        data = base64url_decode(text)
    except ValueError as error:
        raise BadPacket("record token is not base64url") from error
    if base64url_encode(data).decode() != text:
        raise BadPacket("record token is not canonical base64url")
    return data
