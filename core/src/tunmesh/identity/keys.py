"""The node key: one Ed25519 key that signs, and its X25519 form that sessions are opened with.

The node id is derived from the X25519 form, since two Ed25519 keys (A and -A) share it: whatever
names, pins or blocks a node goes by X25519.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Self

import nacl.bindings
import nacl.exceptions

from tunmesh.errors import BadPacket, ConfigError

KEY_SIZE: Final = 32
NODE_ID_SIZE: Final = 16
FILE_NAME: Final = "node.key"

_CONFIG_KEY: Final = "node.state_dir"


def node_id_of(x25519_public: bytes) -> str:
    """The id of the node that holds a static key: 32 lower-case hex digits."""
    return hashlib.sha256(b"tunmesh/v1/node" + x25519_public).digest()[:NODE_ID_SIZE].hex()


def x25519_from_ed25519_untrusted(ed25519_public: bytes) -> bytes:
    """The X25519 form of somebody's Ed25519 public key.

    Raises:
        BadPacket: It is not a point of the prime-order group.
    """
    if len(ed25519_public) != KEY_SIZE:
        raise BadPacket(f"an ed25519 key has {KEY_SIZE} bytes, not {len(ed25519_public)}")
    try:
        return nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(ed25519_public)
    except nacl.exceptions.RuntimeError as exc:
        raise BadPacket("not a usable ed25519 key") from exc


class NodeKey:
    """The private key of this node.

    Attributes:
        node_id: See `node_id_of`.
        ed25519_public: Verifies what `sign` makes.
        x25519_public: The static key of the handshake.
        x25519_private: Its private half; never shown.
    """

    __slots__ = ("_ed25519_private", "ed25519_public", "node_id", "x25519_private", "x25519_public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_SIZE:
            raise ValueError(f"a seed has {KEY_SIZE} bytes, not {len(seed)}")
        self.ed25519_public, self._ed25519_private = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.x25519_public = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(self.ed25519_public)
        self.x25519_private = nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(
            self._ed25519_private
        )
        self.node_id = node_id_of(self.x25519_public)

    def __repr__(self) -> str:
        return f"<NodeKey {self.node_id}>"

    def __reduce__(self) -> str:
        raise TypeError("a node key cannot be pickled or copied")

    @classmethod
    def generate(cls) -> Self:
        """A new key, held in memory only."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key that belongs to a 32-byte seed."""
        return cls(seed)

    @classmethod
    def load_or_create(cls, state_dir: Path) -> Self:
        """The key kept in a directory, made there if there is none.

        Two processes that start at once get the same key.

        Raises:
            ConfigError: The file cannot be read or made, others may read it, or it is no key.
        """
        path = state_dir / FILE_NAME
        try:
            try:
                seed = _read_seed(path)
            except FileNotFoundError:
                state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                _create_seed(path)
                seed = _read_seed(path)
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}", key=_CONFIG_KEY) from exc
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message."""
        signed = nacl.bindings.crypto_sign(message, self._ed25519_private)
        return signed[: nacl.bindings.crypto_sign_BYTES]


def _read_seed(path: Path) -> bytes:
    """The content of the key file. Its owner and mode are checked first."""
    try:
        # O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise ConfigError(f"{path}: must not be a symbolic link", key=_CONFIG_KEY) from exc
        raise
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: not a regular file", key=_CONFIG_KEY)
        if status.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"{path}: belongs to another user", key=_CONFIG_KEY)
        if status.st_mode & 0o077:
            raise ConfigError(f"{path}: others may use it, run: chmod 600 {path}", key=_CONFIG_KEY)
        seed = file.read(KEY_SIZE + 1)
    if len(seed) != KEY_SIZE:
        raise ConfigError(f"{path}: not a node key ({KEY_SIZE} bytes expected)", key=_CONFIG_KEY)
    return seed


def _create_seed(path: Path) -> None:
    """Make the key file whole or not at all; one that another process made meanwhile stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(KEY_SIZE))
            file.flush()
            os.fsync(fd)
        try:
            os.link(temporary, path)  # unlike a rename, never replaces
        except FileExistsError:
            return
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
