"""The secret that the nodes of a mesh share, and the keys derived from it.

The secret itself is never used as a key. The mesh's name takes part in the derivation, so that
meshes of different names are separate even if they share a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from tunmesh.errors import ConfigError
from tunmesh.identity import hkdf

MIN_CHARACTERS: Final = 32
#: A secret whose characters could carry fewer bits than this is worth a warning.
LOW_ENTROPY_BITS: Final = 100

MESH_ID_SIZE: Final = 16
PSK_ID_SIZE: Final = 4


class Secret:
    """A secret that does not show itself; ``bytes(secret)`` reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    @classmethod
    def from_text(cls, text: str, *, key: str = "mesh.secret") -> Self:
        """The secret that a configured text stands for: its UTF-8 bytes.

        Args:
            text: Without the newline that ends a file.
            key: The configuration key to name in errors.

        Raises:
            ConfigError: It is too short, or no valid Unicode.
        """
        if len(text) < MIN_CHARACTERS:
            raise ConfigError(
                f"a secret needs {MIN_CHARACTERS} characters or more, not {len(text)}; "
                "make one with: tunmesh secret generate",
                key=key,
            )
        try:
            return cls(text.encode())
        except UnicodeEncodeError:
            # Without its cause, which would show the text.
            raise ConfigError("a secret must be valid UTF-8", key=key) from None

    def __bytes__(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled or copied")


def generate_secret() -> str:
    """A new secret for a mesh: 32 random bytes as text."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def low_entropy(secret: bytes) -> bool:
    """Whether a secret looks guessable: few different characters, or a short text repeated.

    An estimate from the text alone, which cannot recognise words.
    """
    if not secret or secret in (secret + secret)[1:-1]:  # equal to a rotation of itself: periodic
        return True
    size = len(secret)
    bits = sum(count * math.log2(size / count) for count in Counter(secret).values())
    return bits < LOW_ENTROPY_BITS


@dataclass(frozen=True, slots=True, repr=False)
class MeshKeys:
    """What is derived from one secret and the mesh's name.

    Attributes:
        mesh_id: Names the mesh; not secret.
        psk_id: Tells which secret a handshake uses; not secret.
        psk: The pre-shared key of the handshake.
        gate: Keys the MACs that come before any handshake, so that outsiders get no answer.
        jwt: Signs requests.
    """

    mesh_id: bytes
    psk_id: bytes
    psk: bytes
    gate: bytes
    jwt: bytes

    def __repr__(self) -> str:
        return f"<MeshKeys {self.psk_id.hex()}>"


def derive(secret: bytes, mesh_name: str) -> MeshKeys:
    """The keys that belong to a secret in the mesh of that name."""
    salt = hashlib.sha256(b"tunmesh/v1/root\0" + mesh_name.encode()).digest()
    root = hkdf.extract(salt, secret)
    return MeshKeys(
        mesh_id=hkdf.expand(root, b"cluster-id", MESH_ID_SIZE),
        psk_id=hkdf.expand(root, b"psk-id", PSK_ID_SIZE),
        psk=hkdf.expand(root, b"noise/psk", 32),
        gate=hkdf.expand(root, b"udp/gate", 32),
        jwt=hkdf.expand(root, b"jwt/hs256", 32),
    )


class Keyring:
    """The keys of all secrets that this node accepts; it opens sessions with the first.

    Args:
        secrets: The current secret first, then those that are still or already accepted.
        mesh_name: See `derive`.

    Raises:
        ConfigError: There is no secret at all.
    """

    __slots__ = ("_by_id", "all", "current")

    def __init__(self, secrets: Sequence[bytes], mesh_name: str) -> None:
        if not secrets:
            raise ConfigError("no secret is configured", key="mesh.secret")
        self.all = tuple(derive(secret, mesh_name) for secret in dict.fromkeys(secrets))
        self.current = self.all[0]
        self._by_id = {keys.psk_id: keys for keys in reversed(self.all)}

    def find(self, psk_id: bytes) -> MeshKeys | None:
        """The keys of the secret with that id."""
        return self._by_id.get(psk_id)
