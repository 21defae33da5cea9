"""The AEAD suites and the rule by which two nodes agree on one.

A node offers a bit set: one bit for each suite that it allows, and one that says whether its
processor has AES instructions. Both sides apply the same rule to both offers, and both offers
travel inside the handshake: who tampers with them gets no session instead of a worse one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Aead = AESGCM | ChaCha20Poly1305

AES256GCM: Final = 1
CHACHA20POLY1305: Final = 2

#: Suites by their names in the configuration.
SUITES: Final = {"aes256gcm": AES256GCM, "chacha20poly1305": CHACHA20POLY1305}
NAMES: Final = {suite: name for name, suite in SUITES.items()}

_AEADS: Final[dict[int, type[AESGCM | ChaCha20Poly1305]]] = {
    AES256GCM: AESGCM,
    CHACHA20POLY1305: ChaCha20Poly1305,
}
_HARDWARE_AES: Final = 0x8000


def aead(suite: int, key: bytes) -> Aead:
    """The cipher of a suite with a 32-byte key."""
    return _AEADS[suite](key)


def offer(suites: Iterable[int], *, hardware_aes: bool) -> int:
    """The bit set to offer: 16 bits."""
    bits = _HARDWARE_AES if hardware_aes else 0
    for suite in suites:
        bits |= _bit(suite)
    return bits


def choose(ours: int, theirs: int) -> int | None:
    """The suite for two offers, None if they have none in common. Symmetric.

    AES needs its instructions on both sides: without them it is slow and not constant in time.
    """
    common = ours & theirs
    aes, chacha = common & _bit(AES256GCM), common & _bit(CHACHA20POLY1305)
    if aes and (common & _HARDWARE_AES or not chacha):
        return AES256GCM
    return CHACHA20POLY1305 if chacha else None


def _bit(suite: int) -> int:
    return 1 << (suite - 1)
