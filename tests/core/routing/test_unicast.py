"""What a node believes others."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tunmesh.interfaces import Route
from tunmesh.routing import Acceptance, routes_of_record

A = "a" * 32


def acceptance(*subnets: str, underlay: tuple[str, ...] = ()) -> Acceptance:
    return Acceptance(
        networks=(ip_network("10.42.0.0/16"), ip_network("fd42::/48")),
        subnets=tuple(map(ip_network, subnets)),
        underlay=tuple(map(ip_network, underlay)),
    )


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("10.42.1.2", True),
        ("10.43.1.2", False),
        ("fd42::1", True),
        ("fd43::1", False),
        ("fe80::1", True),
        ("169.254.1.1", False),
        ("ff02::1", False),
    ],
)
def test_addresses(address: str, accepted: bool) -> None:
    result = routes_of_record(A, [ip_address(address)], [], acceptance())
    host = ip_network(address)
    if accepted:
        assert (result.routes, result.refused) == ([Route(host, "address", (A,))], [])
    else:
        assert (result.routes, result.refused) == ([], [(host, "outside mesh.networks")])


@pytest.mark.parametrize(
    ("prefix", "accepted", "underlay", "reason"),
    [
        ("10.1.0.0/16", ["10.0.0.0/8"], (), None),
        ("10.0.0.0/8", ["10.0.0.0/8"], (), None),
        ("10.0.0.0/7", ["10.0.0.0/8"], (), "outside routing.accept_subnets"),
        ("fd00::/16", ["10.0.0.0/8"], (), "outside routing.accept_subnets"),
        ("0.0.0.0/0", ["10.0.0.0/8"], (), "outside routing.accept_subnets"),
        ("0.0.0.0/0", ["0.0.0.0/0"], ("192.0.2.0/24",), None),
        ("::/0", ["0.0.0.0/0"], (), "outside routing.accept_subnets"),
        ("::/0", ["::/0"], (), None),
        ("127.0.0.0/16", ["0.0.0.0/0"], (), "of a special-purpose range"),
        ("239.0.0.0/8", ["0.0.0.0/0"], (), "of a special-purpose range"),
        ("::ffff:10.0.0.0/104", ["::/0"], (), "of a special-purpose range"),
        ("fe80::/64", ["::/0"], (), "of a special-purpose range"),
        (
            "10.1.0.0/16",
            ["10.0.0.0/8"],
            ("10.1.2.0/24",),
            "overlaps the connected network 10.1.2.0/24",
        ),
        (
            "10.1.2.128/25",
            ["10.0.0.0/8"],
            ("fd00::/8", "10.1.2.0/24"),
            "overlaps the connected network 10.1.2.0/24",
        ),
        ("10.1.0.0/16", ["10.0.0.0/8"], ("10.2.0.0/24",), None),
    ],
)
def test_subnets(
    prefix: str, accepted: list[str], underlay: tuple[str, ...], reason: str | None
) -> None:
    network = ip_network(prefix)
    result = routes_of_record(A, [], [(network, 7)], acceptance(*accepted, underlay=underlay))
    if reason is None:
        assert (result.routes, result.refused) == ([Route(network, "subnet", (A,), 7)], [])
    else:
        assert (result.routes, result.refused) == ([], [(network, reason)])
