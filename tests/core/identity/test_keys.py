"""The node key, its file, and the id."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import stat
from pathlib import Path

import nacl.bindings
import nacl.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import BadPacket, ConfigError
from tunmesh.identity.keys import (
    FILE_NAME,
    NodeKey,
    _create_seed,
    node_id_of,
    x25519_from_ed25519_untrusted,
)

SEED = bytes(range(32))


def test_a_seed_gives_the_same_key_each_time() -> None:
    one, two = NodeKey.from_seed(SEED), NodeKey.from_seed(SEED)
    assert (one.node_id, one.x25519_private) == (two.node_id, two.x25519_private)
    assert NodeKey.generate().node_id != NodeKey.generate().node_id


def test_the_forms_of_a_key_belong_together() -> None:
    key = NodeKey.from_seed(SEED)
    assert nacl.bindings.crypto_scalarmult_base(key.x25519_private) == key.x25519_public
    assert x25519_from_ed25519_untrusted(key.ed25519_public) == key.x25519_public
    assert key.node_id == node_id_of(key.x25519_public)
    assert len(key.node_id) == 32
    assert key.node_id == key.node_id.lower()


def test_signatures_verify() -> None:
    key = NodeKey.generate()
    signature = key.sign(b"message")
    assert len(signature) == 64
    opened = nacl.bindings.crypto_sign_open(signature + b"message", key.ed25519_public)
    assert opened == b"message"
    with pytest.raises(nacl.exceptions.BadSignatureError):
        nacl.bindings.crypto_sign_open(signature + b"Message", key.ed25519_public)


def test_a_key_does_not_leak() -> None:
    key = NodeKey.from_seed(SEED)
    assert repr(key) == f"<NodeKey {key.node_id}>"
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NodeKey.from_seed(b"short")


@given(st.binary(max_size=40))
def test_any_bytes_convert_or_are_a_bad_packet(data: bytes) -> None:
    with contextlib.suppress(BadPacket):
        assert len(x25519_from_ed25519_untrusted(data)) == 32


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(BadPacket):
        x25519_from_ed25519_untrusted(point)


def test_the_file_is_made_once_and_private(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    key = NodeKey.load_or_create(state)
    file = state / FILE_NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in state.iterdir()] == [FILE_NAME]
    assert NodeKey.load_or_create(state).node_id == key.node_id


def test_the_key_of_whoever_was_first_stays(tmp_path: Path) -> None:
    key = NodeKey.load_or_create(tmp_path)
    _create_seed(tmp_path / FILE_NAME)
    assert NodeKey.load_or_create(tmp_path).node_id == key.node_id
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    NodeKey.load_or_create(tmp_path)
    (tmp_path / FILE_NAME).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        NodeKey.load_or_create(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    NodeKey.load_or_create(tmp_path)
    os.chown(tmp_path / FILE_NAME, 65534, 65534)
    with pytest.raises(ConfigError, match="another user"):
        NodeKey.load_or_create(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    NodeKey.load_or_create(other)
    (tmp_path / FILE_NAME).symlink_to(other / FILE_NAME)
    with pytest.raises(ConfigError, match="symbolic link"):
        NodeKey.load_or_create(tmp_path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME, 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        NodeKey.load_or_create(tmp_path)


@pytest.mark.parametrize("content", [b"", SEED[:-1], SEED + b"\n"])
def test_a_file_of_another_size_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="not a node key"):
        NodeKey.load_or_create(tmp_path)


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory") as caught:
        NodeKey.load_or_create(tmp_path / "file")
    assert caught.value.key == "node.state_dir"
