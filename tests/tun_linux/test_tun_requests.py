"""What the helper process understands, and what it allows."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.errors import BadPacket
from tunmesh_tun_linux.hostnet import _address_arguments, route_arguments
from tunmesh_tun_linux.requests import (
    REQUEST_SIZE,
    Allowance,
    Operation,
    Request,
    decode_request_untrusted,
    request,
)
from tunmesh_tun_linux.routes import KernelRoute
from tunmesh_tun_linux.rules import TABLE, Rule, rule_arguments

ALLOWANCE = Allowance(
    networks=tuple(map(ipaddress.ip_network, ("10.42.0.0/16", "fd42::/48"))),
    prefixes=tuple(map(ipaddress.ip_network, ("192.168.0.0/16", "fc00::/7"))),
)
DEFAULT = Allowance(ALLOWANCE.networks, (ipaddress.ip_network("0.0.0.0/0"),))


def address(text: str, command: str = "add") -> Request:
    return request("addr", command, _address_arguments(ipaddress.ip_interface(text)))


def route(text: str, *, source: str = "", broadcast: bool = False, apart: bool = False) -> Request:
    preferred = ipaddress.ip_address(source) if source else None
    wanted = KernelRoute(ipaddress.ip_network(text), preferred, broadcast, apart)
    return request("route", "add", route_arguments(wanted))


def rule(priority: int, source: str = "", version: int = 4) -> Request:
    wanted = Rule(priority, ipaddress.ip_address(source) if source else None)
    family = 2 if version == 4 else 10
    return request("rule", "add", {"family": family, **rule_arguments(wanted, 0x746D)})


SAMPLES = [
    address("10.42.1.1/24"),
    address("fe80::1/64", "del"),
    route("192.168.7.0/24", source="10.42.1.1"),
    route("fd42::/48"),
    route("10.42.255.255/32", source="10.42.1.1", broadcast=True),
    route("0.0.0.0/0", apart=True),
    rule(TABLE - 2),
    rule(TABLE - 1, "192.0.2.1"),
    rule(TABLE, version=6),
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_message_says_what_was_meant(sample: Request) -> None:
    message = sample.encode()
    assert len(message) == REQUEST_SIZE
    assert decode_request_untrusted(message) == sample
    assert sample.reverse.reverse == sample
    assert {sample.call[1], sample.reverse.call[1]} == {"add", "del"}


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("addr", _address_arguments(ipaddress.ip_interface("fd42::1/64"))),
        ("route", route_arguments(KernelRoute(ipaddress.ip_network("10.0.0.0/8"), None))),
        ("rule", {"family": 2, "protocol": 84, **rule_arguments(Rule(TABLE), 7)}),
        (
            "rule",
            {
                "family": 2,
                "protocol": 84,
                **rule_arguments(Rule(TABLE - 1, ipaddress.ip_address("192.0.2.1")), 7),
            },
        ),
    ],
)
def test_the_call_is_the_one_that_was_asked_for(method: str, arguments: dict[str, Any]) -> None:
    found = decode_request_untrusted(request(method, "add", arguments).encode()).call
    assert found[:2] == (method, "add")
    expected = {"flags": 0, **arguments} if method == "addr" else arguments
    assert found[2] == expected


@pytest.mark.parametrize(
    "allowed",
    [
        address("10.42.1.1/24"),
        address("10.42.1.1/16"),
        address("fd42::1/64"),
        address("fe80::1/64"),
        route("10.42.0.0/16"),
        route("192.168.7.0/24"),
        route("224.0.0.0/4"),
        route("fe80::/64"),
        route("255.255.255.255/32"),
        route("10.42.255.255/32", broadcast=True),
    ],
)
def test_allowed(allowed: Request) -> None:
    assert ALLOWANCE.allows(allowed)
    assert ALLOWANCE.allows(allowed.reverse)


@pytest.mark.parametrize(
    "refused",
    [
        address("10.43.1.1/24"),
        address("10.42.1.1/8"),
        address("192.168.1.1/24"),
        address("2001:db8::1/64"),
        route("0.0.0.0/0"),
        route("0.0.0.0/0", apart=True),
        route("0.0.0.0/1"),
        route("10.0.0.0/8"),
        route("198.51.100.0/24"),
        route("::/0"),
        rule(TABLE),
        Request(Operation.ADD_ADDRESS, 4, 24, flags=1, address=ipaddress.ip_address("10.42.0.1")),
        Request(  # another table
            Operation.ADD_ROUTE, 4, 16, 1, table=100, address=ipaddress.ip_address("10.42.0.0")
        ),
        Request(  # a local route
            Operation.ADD_ROUTE, 4, 32, 2, table=255, address=ipaddress.ip_address("10.42.0.1")
        ),
        Request(  # bits beyond the prefix
            Operation.ADD_ROUTE, 4, 16, 1, table=254, address=ipaddress.ip_address("10.42.0.1")
        ),
    ],
)
def test_refused(refused: Request) -> None:
    assert not ALLOWANCE.allows(refused)


def test_a_default_route_where_it_is_accepted() -> None:
    assert DEFAULT.allows(route("0.0.0.0/0", apart=True))
    assert DEFAULT.allows(rule(TABLE))
    assert not DEFAULT.allows(rule(TABLE, version=6))
    assert not DEFAULT.allows(rule(TABLE + 1))
    assert not DEFAULT.allows(route("::/0", apart=True))


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=80), st.binary(min_size=REQUEST_SIZE, max_size=REQUEST_SIZE)))
def test_nonsense_is_refused_and_nothing_else(data: bytes) -> None:
    try:
        found = decode_request_untrusted(data)
    except BadPacket:
        return
    assert decode_request_untrusted(found.encode()) == found
    ALLOWANCE.allows(found)


@settings(max_examples=100)
@given(st.sampled_from(SAMPLES), st.integers(0, REQUEST_SIZE - 1), st.integers(0, 255))
def test_changed_messages(sample: Request, position: int, value: int) -> None:
    data = bytearray(sample.encode())
    data[position] = value
    test_nonsense_is_refused_and_nothing_else.hypothesis.inner_test(bytes(data))  # type: ignore[attr-defined]
