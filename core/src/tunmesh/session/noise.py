"""Noise IKpsk1 over X25519 and SHA-256 (Noise Protocol Framework, revision 34).

::

    <- s
    ...
    -> e, es, s, ss, psk    + payload
    <- e, ee, se            + payload

The pre-shared key ends the first message, so that its payload proves membership before the
responder answers. Knows nothing of what surrounds the Noise messages on the wire.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, Literal

import nacl.bindings
import nacl.exceptions
from cryptography.exceptions import InvalidTag

from tunmesh.errors import BadHandshake, LocalProtocolError
from tunmesh.session.suites import AES256GCM, CHACHA20POLY1305, Aead, aead

KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
STATIC_SIZE: Final = KEY_SIZE + TAG_SIZE

_PROTOCOLS: Final = {
    AES256GCM: b"Noise_IKpsk1_25519_AESGCM_SHA256",
    CHACHA20POLY1305: b"Noise_IKpsk1_25519_ChaChaPoly_SHA256",
}
# How the counter is written into the nonce (Noise 12.3, 12.4).
_NONCE_ORDER: Final[dict[int, Literal["big", "little"]]] = {
    AES256GCM: "big",
    CHACHA20POLY1305: "little",
}


def public_of(private: bytes) -> bytes:
    """The X25519 public key of a private one."""
    return nacl.bindings.crypto_scalarmult_base(private)


def dh(private: bytes, public: bytes) -> bytes:
    """X25519.

    Raises:
        BadHandshake: The public key is of low order, so that the result would be no secret.
    """
    try:
        return nacl.bindings.crypto_scalarmult(private, public)
    except nacl.exceptions.RuntimeError as exc:
        raise BadHandshake("an x25519 key of low order") from exc


def _hkdf(chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF of Noise 4.3: `count` outputs of 32 bytes."""
    key = hmac.digest(chaining_key, material, "sha256")
    outputs = [b""]
    for number in range(1, count + 1):
        outputs.append(hmac.digest(key, outputs[-1] + bytes((number,)), "sha256"))
    return outputs[1:]


class _SymmetricState:
    """SymmetricState of Noise 5.2."""

    __slots__ = ("_aead", "_chaining_key", "_counter", "_suite", "hash")

    def __init__(self, suite: int, prologue: bytes) -> None:
        name = _PROTOCOLS[suite]
        fits = len(name) <= KEY_SIZE
        self.hash = name.ljust(KEY_SIZE, b"\0") if fits else hashlib.sha256(name).digest()
        self._suite = suite
        self._chaining_key = self.hash
        self._aead: Aead | None = None
        self._counter = 0
        self.mix_hash(prologue)

    def copy(self) -> _SymmetricState:
        twin = object.__new__(_SymmetricState)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, material, 2)
        self._rekey(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self._chaining_key, mixed, key = _hkdf(self._chaining_key, material, 3)
        self.mix_hash(mixed)
        self._rekey(key)

    def mix_ephemeral(self, public: bytes) -> None:
        """Token "e" of a handshake with pre-shared keys, which also keys (Noise 9.2)."""
        self.mix_hash(public)
        self.mix_key(public)

    def encrypt(self, plaintext: bytes) -> bytes:
        cipher, nonce = self._next()
        ciphertext = cipher.encrypt(nonce, plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        cipher, nonce = self._next()
        try:
            plaintext = cipher.decrypt(nonce, ciphertext, self.hash)
        except InvalidTag as exc:
            raise BadHandshake("a handshake message does not authenticate") from exc
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        first, second = _hkdf(self._chaining_key, b"", 2)
        return first, second

    def _rekey(self, key: bytes) -> None:
        self._aead = aead(self._suite, key)
        self._counter = 0

    def _next(self) -> tuple[Aead, bytes]:
        if self._aead is None:
            raise LocalProtocolError("a noise message before any key")
        nonce = bytes(4) + self._counter.to_bytes(8, _NONCE_ORDER[self._suite])
        self._counter += 1
        return self._aead, nonce


class Initiator:
    """The side that writes the first message.

    Args:
        suite: One of `tunmesh.session.suites`.
        prologue: What both sides must agree on beforehand.
        private: Own static key.
        remote: Static key of the responder.
        psk: The pre-shared key.
        ephemeral: Private key to use instead of a random one: for test vectors.
    """

    __slots__ = ("_ephemeral", "_private", "_psk", "_remote", "_state")

    def __init__(
        self,
        suite: int,
        prologue: bytes,
        private: bytes,
        remote: bytes,
        psk: bytes,
        *,
        ephemeral: bytes | None = None,
    ) -> None:
        self._state = _SymmetricState(suite, prologue)
        self._state.mix_hash(remote)
        self._private = private
        self._remote = remote
        self._psk = psk
        self._ephemeral = ephemeral or secrets.token_bytes(KEY_SIZE)

    def write_request(self, payload: bytes) -> bytes:
        """The first message. To be called once.

        Raises:
            BadHandshake: The responder's static key is of low order.
        """
        state = self._state
        ephemeral = public_of(self._ephemeral)
        state.mix_ephemeral(ephemeral)
        state.mix_key(dh(self._ephemeral, self._remote))
        static = state.encrypt(public_of(self._private))
        state.mix_key(dh(self._private, self._remote))
        state.mix_key_and_hash(self._psk)
        return ephemeral + static + state.encrypt(payload)

    def read_response(self, message: bytes) -> tuple[bytes, tuple[bytes, bytes]]:
        """Payload of the second message, and the keys for sending and receiving.

        A message that fails leaves no trace: the genuine one may still follow.

        Raises:
            BadHandshake: The message is not the responder's answer to this request.
        """
        state = self._state.copy()
        ephemeral = message[:KEY_SIZE]
        state.mix_ephemeral(ephemeral)
        state.mix_key(dh(self._ephemeral, ephemeral))
        state.mix_key(dh(self._private, ephemeral))
        payload = state.decrypt(message[KEY_SIZE:])
        return payload, state.split()


class Responder:
    """The side that answers. For one message only: what fails is thrown away.

    Args:
        suite: As for `Initiator`.
        prologue: As for `Initiator`.
        private: Own static key.
        public: Its public half.
        psk: The pre-shared key.
        ephemeral: As for `Initiator`.
    """

    __slots__ = (
        "_ephemeral",
        "_payload",
        "_private",
        "_psk",
        "_remote_ephemeral",
        "_state",
        "remote",
    )

    def __init__(
        self,
        suite: int,
        prologue: bytes,
        private: bytes,
        public: bytes,
        psk: bytes,
        *,
        ephemeral: bytes | None = None,
    ) -> None:
        self._state = _SymmetricState(suite, prologue)
        self._state.mix_hash(public)
        self._private = private
        self._psk = psk
        self._ephemeral = ephemeral or secrets.token_bytes(KEY_SIZE)
        self._remote_ephemeral = b""
        self._payload = b""
        self.remote = b""

    def read_static(self, message: bytes) -> bytes:
        """The initiator's static key, which is a claim until `read_payload` returned.

        Raises:
            BadHandshake: It was not made for this node.
        """
        state = self._state
        self._remote_ephemeral = message[:KEY_SIZE]
        state.mix_ephemeral(self._remote_ephemeral)
        state.mix_key(dh(self._private, self._remote_ephemeral))
        self.remote = state.decrypt(message[KEY_SIZE : KEY_SIZE + STATIC_SIZE])
        self._payload = message[KEY_SIZE + STATIC_SIZE :]
        return self.remote

    def read_payload(self) -> bytes:
        """The payload of the first message; proves the static key and the pre-shared key.

        Raises:
            BadHandshake: The initiator holds not both.
        """
        state = self._state
        state.mix_key(dh(self._private, self.remote))
        state.mix_key_and_hash(self._psk)
        return state.decrypt(self._payload)

    def write_response(self, payload: bytes) -> tuple[bytes, tuple[bytes, bytes]]:
        """The second message, and the keys for sending and receiving."""
        state = self._state
        ephemeral = public_of(self._ephemeral)
        state.mix_ephemeral(ephemeral)
        state.mix_key(dh(self._ephemeral, self._remote_ephemeral))
        state.mix_key(dh(self._ephemeral, self.remote))
        message = ephemeral + state.encrypt(payload)
        receiving, sending = state.split()
        return message, (sending, receiving)
