"""HKDF-SHA256 (RFC 5869) on the standard library."""

from __future__ import annotations

import hmac

HASH_SIZE = 32


def extract(salt: bytes, key_material: bytes) -> bytes:
    """Concentrate key material into a pseudorandom key (RFC 5869, 2.2)."""
    return hmac.digest(salt, key_material, "sha256")


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """Derive `length` bytes for the purpose `info` (RFC 5869, 2.3)."""
    output = block = b""
    counter = 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(key, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]
