"""Cookies: values hold for one address and for a while, and are bound to their request."""

from __future__ import annotations

import pytest

from tunmesh.errors import BadHandshake
from tunmesh.session import cookie, wire

GATE, STATIC, MAC1, VALUE = b"g" * 32, b"s" * 32, b"1" * 16, b"v" * 16
HERE, THERE = "udp://10.0.0.1:1", "udp://10.0.0.1:2"


def with_mac2(value: bytes, message: bytes = b"request") -> bytes:
    return message + cookie.mac(value, message)


def test_mac2_proves_the_address() -> None:
    jar = cookie.CookieJar(120.0)
    value = jar.load(HERE, 0.0)
    assert jar.check_mac2(with_mac2(value), HERE, 0.0)
    assert not jar.check_mac2(with_mac2(value), THERE, 0.0)
    assert not jar.check_mac2(with_mac2(bytes(16)), HERE, 0.0)
    assert not jar.check_mac2(b"changed" + with_mac2(value)[7:], HERE, 0.0)
    assert not cookie.CookieJar(120.0).check_mac2(with_mac2(value), HERE, 0.0)


def test_a_value_survives_one_change_of_the_key_and_not_two() -> None:
    jar = cookie.CookieJar(120.0)
    value = jar.load(HERE, 0.0)
    assert jar.check_mac2(with_mac2(value), HERE, 119.0)
    assert jar.check_mac2(with_mac2(value), HERE, 121.0)
    assert jar.load(HERE, 122.0) != value
    assert not jar.check_mac2(with_mac2(value), HERE, 242.0)


def test_a_value_does_not_outlive_a_pause() -> None:
    jar = cookie.CookieJar(120.0)
    value = jar.load(HERE, 0.0)
    assert not jar.check_mac2(with_mac2(value), HERE, 240.0)


def test_a_challenge_holds_for_initiator_address_and_timestamp() -> None:
    jar = cookie.CookieJar(120.0)
    value = jar.challenge(STATIC, HERE, 7, 0.0)
    assert jar.check_challenge(value, STATIC, HERE, 7, 121.0)
    assert not jar.check_challenge(value, b"t" * 32, HERE, 7, 1.0)
    assert not jar.check_challenge(value, STATIC, THERE, 7, 1.0)
    assert not jar.check_challenge(value, STATIC, HERE, 8, 1.0)
    assert value != jar.load(HERE, 1.0)


def test_a_sealed_value_opens_for_its_request_only() -> None:
    key = cookie.cookie_key(GATE, STATIC)
    sealed = cookie.seal(key, cookie.LOAD, 5, VALUE, MAC1)
    assert len(sealed) == wire.COOKIE_SIZE
    assert cookie.open_untrusted(key, wire.decode_cookie_untrusted(sealed), MAC1) == VALUE
    assert sealed != cookie.seal(key, cookie.LOAD, 5, VALUE, MAC1)
    with pytest.raises(BadHandshake):
        cookie.open_untrusted(key, wire.decode_cookie_untrusted(sealed), b"2" * 16)
    with pytest.raises(BadHandshake):
        cookie.open_untrusted(
            cookie.cookie_key(GATE, b"t" * 32), wire.decode_cookie_untrusted(sealed), MAC1
        )


def test_keys_differ_by_purpose_and_node() -> None:
    keys = {
        derive(gate, static)
        for derive in (cookie.mac1_key, cookie.cookie_key)
        for gate in (GATE, b"h" * 32)
        for static in (STATIC, b"t" * 32)
    }
    assert len(keys) == 8
