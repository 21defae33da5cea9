"""Secrets, what is derived from them, and the keyring."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import ConfigError
from tunmesh.identity.secrets import (
    Keyring,
    Secret,
    derive,
    generate_secret,
    low_entropy,
)

TEXT = "correct horse battery staple and more"


def test_a_secret_hides_itself() -> None:
    secret = Secret.from_text(TEXT)
    assert repr(secret) == str(secret) == f"{secret}" == "***"
    assert bytes(secret) == TEXT.encode()
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(secret)


def test_secrets_compare_by_value() -> None:
    assert Secret.from_text(TEXT) == Secret(TEXT.encode())
    assert len({Secret.from_text(TEXT), Secret(TEXT.encode())}) == 1
    assert Secret.from_text(TEXT) != Secret(b"other")
    assert Secret.from_text(TEXT) != TEXT


def test_characters_count_and_not_bytes() -> None:
    assert bytes(Secret.from_text("ä" * 32)) == "ä".encode() * 32
    with pytest.raises(ConfigError, match="32 characters") as caught:
        Secret.from_text("ä" * 31, key="mesh.secret_file")
    assert caught.value.key == "mesh.secret_file"


def test_text_that_is_no_unicode_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        Secret.from_text("\ud800" * 32)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_generated_secrets_are_good() -> None:
    secrets = {generate_secret() for _ in range(20)}
    assert len(secrets) == 20
    for text in secrets:
        assert len(text) == 43
        assert not low_entropy(bytes(Secret.from_text(text)))


@pytest.mark.parametrize(
    ("text", "low"),
    [
        ("", True),
        ("a" * 32, True),
        ("abcdefgh" * 8, True),
        ("0123456789abcdef" * 2, True),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", True),
        ("9f86d081884c7d659a2feaa0c55ad015", False),
        (TEXT, False),
    ],
)
def test_low_entropy(text: str, low: bool) -> None:
    assert low_entropy(text.encode()) is low


def test_derivation_is_pinned() -> None:
    # Changing any of these splits every mesh in two.
    keys = derive(b"0123456789abcdefghijklmnopqrstuv", "tunmesh")
    assert keys.mesh_id.hex() == "4711559c3b8a76f83b1fc71361202ca8"
    assert keys.psk_id.hex() == "0acc81cd"
    assert keys.psk.hex() == "b49896bf5ca007a797d780ab58738967cee12a86070d204d7ba1cac638a915e3"
    assert keys.gate.hex() == "d4d5b420c69b8ac2f7f991e287299817fc519701ad33fc8e39b6884267344a80"
    assert keys.jwt.hex() == "0a34c3d575c2deb2c0a3712bff0445e154992db60b61b1c860a85be7b7db77d2"
    assert repr(keys) == "<MeshKeys 0acc81cd>"


@given(st.binary(min_size=1), st.text(), st.text())
def test_names_separate_meshes(secret: bytes, one: str, two: str) -> None:
    first, second = derive(secret, one), derive(secret, two)
    assert (first == second) == (one == two)
    if one != two:
        assert first.psk != second.psk
        assert first.gate != second.gate


def test_keys_of_one_secret_differ_by_purpose() -> None:
    keys = derive(b"s", "tunmesh")
    assert len({keys.psk, keys.gate, keys.jwt}) == 3


def test_a_keyring_opens_with_the_first_and_accepts_all() -> None:
    ring = Keyring([b"new", b"old", b"new"], "tunmesh")
    assert ring.all == (derive(b"new", "tunmesh"), derive(b"old", "tunmesh"))
    assert ring.current == ring.all[0]
    assert ring.find(ring.all[1].psk_id) == ring.all[1]
    assert ring.find(b"none") is None


def test_a_keyring_without_a_secret_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Keyring([], "tunmesh")
    assert caught.value.key == "mesh.secret"
