"""Cookies: how a responder asks an initiator for another request, without keeping any state.

Three things can be asked for, as the `kind` of a COOKIE message:

* `LOAD`: a MAC (mac2) keyed by the value, which proves the initiator's address; sent before any
  costly computation.
* `CHALLENGE`: the value repeated inside the request, which proves that it is not a replay
  although its timestamp says so; sent after the request authenticated.
* `SUITES`: another suite, chosen with the responder's offer, which is the value.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunmesh.errors import BadHandshake
from tunmesh.identity import hkdf
from tunmesh.session import wire

LOAD, CHALLENGE, SUITES = 0, 1, 2
KINDS: Final = frozenset({LOAD, CHALLENGE, SUITES})
VALUE_SIZE: Final = 16

_NONCE_SIZE: Final = 24


def mac(key: bytes, message: bytes) -> bytes:
    """The 16-byte MAC of all messages outside of sessions."""
    return hmac.digest(key, message, "sha256")[: wire.MAC_SIZE]


def mac1_key(gate: bytes, receiver: bytes) -> bytes:
    """The key of mac1 in messages to the node with that static key."""
    return hkdf.expand(gate, b"mac1" + receiver, 32)


def cookie_key(gate: bytes, responder: bytes) -> bytes:
    """The key that cookies of the node with that static key are sealed with."""
    return hkdf.expand(gate, b"cookie" + responder, 32)


def seal(key: bytes, kind: int, receiver: int, value: bytes, mac1: bytes) -> bytes:
    """A COOKIE message.

    Args:
        key: The responder's `cookie_key`.
        kind: What is asked for.
        receiver: Sender index of the request.
        value: 16 bytes.
        mac1: Of the request, so that only who has seen it can answer it.
    """
    header = wire.encode_cookie_header(kind, receiver)
    nonce = secrets.token_bytes(_NONCE_SIZE)
    sealed = _aead(key, nonce).encrypt(bytes(12), value, header + mac1)
    return header + nonce + sealed


def open_untrusted(key: bytes, cookie: wire.Cookie, mac1: bytes) -> bytes:
    """The value inside a COOKIE message that answers the request with that mac1.

    Raises:
        BadHandshake: It does not authenticate.
    """
    header = wire.encode_cookie_header(cookie.kind, cookie.receiver)
    try:
        return _aead(key, cookie.nonce).decrypt(bytes(12), cookie.sealed, header + mac1)
    except InvalidTag as exc:
        raise BadHandshake("a COOKIE does not authenticate") from exc


def _aead(key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    # The nonce goes into the key: 24 random bytes would not fit the cipher's own nonce.
    return ChaCha20Poly1305(hmac.digest(key, nonce, "sha256"))


class CookieJar:
    """Makes and checks the values of a responder's cookies.

    Args:
        life: Seconds after which the key is replaced; the one before it is still accepted.
    """

    __slots__ = ("_keys", "_life", "_made")

    def __init__(self, life: float) -> None:
        self._life = life
        self._made = float("-inf")
        self._keys: tuple[bytes, ...] = ()

    def load(self, endpoint: str, now: float) -> bytes:
        """The value of a LOAD cookie for an endpoint."""
        return self._values(_load_input(endpoint), now)[0]

    def check_mac2(self, message: bytes, endpoint: str, now: float) -> bool:
        """Whether the message ends with a MAC keyed by a LOAD cookie for that endpoint."""
        covered, mac2 = message[: -wire.MAC_SIZE], message[-wire.MAC_SIZE :]
        values = self._values(_load_input(endpoint), now)
        return any(hmac.compare_digest(mac(value, covered), mac2) for value in values)

    def challenge(self, static: bytes, endpoint: str, reference: int, now: float) -> bytes:
        """The value of a CHALLENGE for an initiator.

        Args:
            static: The initiator's static key.
            endpoint: Where it is.
            reference: The timestamp that its request did not exceed. A challenge that was met
                changes it, so that each holds only once.
            now: The time.
        """
        return self._values(_challenge_input(static, endpoint, reference), now)[0]

    def check_challenge(
        self, value: bytes, static: bytes, endpoint: str, reference: int, now: float
    ) -> bool:
        """Whether `challenge` gave that value not too long ago."""
        values = self._values(_challenge_input(static, endpoint, reference), now)
        return any(hmac.compare_digest(ours, value) for ours in values)

    def _values(self, message: bytes, now: float) -> list[bytes]:
        """Values under the current key and the one before it."""
        age = now - self._made
        if age >= self._life:
            kept = self._keys[:1] if age < 2 * self._life else ()
            self._keys = (secrets.token_bytes(32), *kept)
            self._made = now
        return [mac(key, message) for key in self._keys]


def _load_input(endpoint: str) -> bytes:
    return b"load" + endpoint.encode()


def _challenge_input(static: bytes, endpoint: str, reference: int) -> bytes:
    return b"chal" + static + reference.to_bytes(8, "big") + endpoint.encode()
