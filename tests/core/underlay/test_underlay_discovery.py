from __future__ import annotations

import ipaddress

from tunmesh.underlay.discovery import SocketAddress, choose_endpoints
from tunmesh.underlay.netlink import InterfaceAddress

WILDCARDS: tuple[SocketAddress, ...] = (("0.0.0.0", 1), ("::", 2, 0, 0))


def addresses(*texts: str, temporary: bool = False) -> list[InterfaceAddress]:
    return [InterfaceAddress(ipaddress.ip_address(text), temporary) for text in texts]


def not_overlay(_address: str) -> bool:
    return False


def test_a_wildcard_stands_for_every_address_of_its_version() -> None:
    found = choose_endpoints("udp", WILDCARDS, addresses("192.0.2.1", "2001:db8::1"), not_overlay)
    assert found == ("udp://192.0.2.1:1", "udp://[2001:db8::1]:2")
    assert choose_endpoints("udp", WILDCARDS[:1], addresses("2001:db8::1"), not_overlay) == ()


def test_a_fixed_address_stands_for_itself() -> None:
    found = choose_endpoints("udp", [("192.0.2.7", 9)], addresses("192.0.2.1"), not_overlay)
    assert found == ("udp://192.0.2.7:9",)


def test_addresses_of_the_overlay_are_no_endpoints() -> None:
    known = addresses("10.42.0.1", "192.0.2.1", "fd42::1")
    overlay = {"10.42.0.1", "fd42::1"}
    assert choose_endpoints("udp", WILDCARDS, known, overlay.__contains__) == ("udp://192.0.2.1:1",)


def test_better_addresses_come_first_and_the_kernels_order_holds_otherwise() -> None:
    known = [
        *addresses("127.0.0.1", "::1", "fe80::1", "169.254.1.1"),
        *addresses("2001:db8::9", temporary=True),
        *addresses("192.0.2.2", "192.0.2.1", "2001:db8::1"),
    ]
    assert choose_endpoints("udp", WILDCARDS, known, not_overlay) == (
        "udp://192.0.2.2:1",
        "udp://192.0.2.1:1",
        "udp://[2001:db8::1]:2",
        "udp://[2001:db8::9]:2",
        "udp://169.254.1.1:1",
    )


def test_loopback_counts_where_there_is_nothing_else() -> None:
    found = choose_endpoints(
        "udp", WILDCARDS, addresses("127.0.0.1", "::1", "fe80::1"), not_overlay
    )
    assert found == ("udp://127.0.0.1:1", "udp://[::1]:2")
    assert choose_endpoints("udp", [], addresses("192.0.2.1"), not_overlay) == ()
