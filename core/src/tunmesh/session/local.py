"""What the parts of the handshake share: who this node is, and what it counts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tunmesh.errors import RemoteProtocolError
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring, MeshKeys
from tunmesh.session import cookie, wire
from tunmesh.session.timing import Timing

_PROLOGUE: Final = b"tunmesh/v1\0"


class Refused(RemoteProtocolError):
    """A message that is well-formed but not wanted.

    Args:
        reason: One of `tunmesh.counters.DROP_REASONS`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """Keys derived from one secret for messages that this node receives."""

    mesh: MeshKeys
    mac1: bytes
    cookie: bytes


@dataclass(slots=True)
class Local:
    """This node, as its handshakes present it.

    Attributes:
        key: The node key.
        keyring: Secrets to use and accept.
        boot_id: 8 random bytes of this process.
        suites: Offer, see `tunmesh.session.suites`.
        default_suite: What to ask of a node whose offer is not known.
        capabilities: Bit set to present.
        max_datagram: Bytes of the largest datagram that this node takes.
        wall_ns: Nanoseconds since 1970.
        timing: Times and limits.
        forbidden: Whether a static key is blocked.
        index_taken: Whether a receiver index is in use.
        counters: Handshakes by what became of them.
    """

    key: NodeKey
    keyring: Keyring
    boot_id: bytes
    suites: int
    default_suite: int
    capabilities: int
    max_datagram: int
    wall_ns: Callable[[], int]
    timing: Timing
    forbidden: Callable[[bytes], bool]
    index_taken: Callable[[int], bool]
    counters: dict[str, int]
    _own_keys: dict[bytes, OwnKeys] = field(init=False)
    _last_timestamp: int = 0

    def __post_init__(self) -> None:
        self.set_keyring(self.keyring)

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept other secrets from now on."""
        self.keyring = keyring
        static = self.key.x25519_public
        self._own_keys = {
            mesh.psk_id: OwnKeys(
                mesh, cookie.mac1_key(mesh.gate, static), cookie.cookie_key(mesh.gate, static)
            )
            for mesh in keyring.all
        }

    def own_keys(self, psk_id: bytes) -> OwnKeys | None:
        """The keys for received messages that name that secret."""
        return self._own_keys.get(psk_id)

    def timestamp(self) -> int:
        """The time to send in a request: larger each time, even if the clock goes back."""
        self._last_timestamp = max(self.wall_ns(), self._last_timestamp + 1)
        return self._last_timestamp

    def keys_of_attempt(self, attempt: int) -> OwnKeys:
        """The keys to begin with: of the first secret, then of each of the others in turn.

        A node whose secrets are being changed does not know which ones its peers have by now, and
        whoever lacks a secret does not answer.
        """
        secrets = self.keyring.all
        return self._own_keys[secrets[attempt % len(secrets)].psk_id]

    def new_index(self) -> int:
        """A random receiver index, which nobody uses."""
        while True:
            index = secrets.randbits(32)
            if index and not self.index_taken(index):
                return index

    def prologue(self, mesh: MeshKeys, init: bytes) -> bytes:
        """What both sides of a handshake must agree on: protocol, mesh, header of the INIT."""
        return _PROLOGUE + mesh.mesh_id + init[: wire.INIT_PROLOGUE_SIZE]
