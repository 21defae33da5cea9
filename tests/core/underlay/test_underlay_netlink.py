from __future__ import annotations

import errno
import ipaddress
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tunmesh.plugin import TransportError
from tunmesh.underlay.netlink import (
    InterfaceAddress,
    decode_address,
    interface_addresses,
    open_watch,
)

OnHost = Callable[..., None]


def new_address(family: int, header_flags: int, **values: bytes) -> memoryview:
    """The body of an RTM_NEWADDR with attributes by name."""
    kinds = {"address": 1, "local": 2, "label": 3, "flags": 8}
    body = struct.pack("=BBBBI", family, 24, header_flags, 0, 2)
    for name, value in values.items():
        body += struct.pack("=HH", 4 + len(value), kinds[name]) + value + bytes(-len(value) % 4)
    return memoryview(body)


def test_of_a_point_to_point_interface_this_end_is_taken() -> None:
    body = new_address(
        socket.AF_INET, 0, address=b"\x0a\0\0\2", label=b"ppp0\0", local=b"\x0a\0\0\1"
    )
    assert decode_address(body) == InterfaceAddress(ipaddress.ip_address("10.0.0.1"), False)


@pytest.mark.parametrize("flag", [0x08, 0x20, 0x40])
def test_an_address_that_is_no_good_yet_or_any_longer_is_left_out(flag: int) -> None:
    packed = ipaddress.ip_address("2001:db8::1").packed
    assert decode_address(new_address(socket.AF_INET6, flag, address=packed)) is None
    long_flags = struct.pack("=I", flag | 0x200)
    body = new_address(socket.AF_INET6, 0, address=packed, flags=long_flags)
    assert decode_address(body) is None


def test_only_ipv6_addresses_are_temporary() -> None:
    for text, expected in (("10.0.0.1", False), ("2001:db8::1", True)):
        address = ipaddress.ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        found = decode_address(new_address(family, 1, address=address.packed))
        assert found == InterfaceAddress(address, expected)


def test_a_message_without_an_address_is_left_out() -> None:
    assert decode_address(new_address(socket.AF_INET, 0)) is None


def test_all_addresses_of_the_host_are_found(on_host: OnHost) -> None:
    def body(host: Any) -> None:
        for number in range(300):  # more than one message of a dump
            host.ipr.addr(
                "add", index=1, address=f"10.0.{number // 250}.{number % 250 + 1}", prefixlen=32
            )
        host.ipr.addr("add", index=1, address="2001:db8::1", prefixlen=64, flags=0x02)
        found = interface_addresses()
        assert len(found) == 303  # with 127.0.0.1 and ::1
        assert InterfaceAddress(ipaddress.ip_address("2001:db8::1"), False) in found

    on_host(body)


def test_the_watch_is_readable_when_an_address_comes_or_goes(on_host: OnHost) -> None:
    def body(host: Any) -> None:
        with open_watch() as watch:
            for command in ("add", "del"):
                host.ipr.addr(command, index=1, address="10.0.0.1", prefixlen=24)
                assert select.select([watch], [], [], 5)[0]
                watch.recv(65536)

    on_host(body)


def test_a_kernel_that_refuses_is_one_kind_of_error(on_host: OnHost) -> None:
    def body(_: Any) -> None:
        with pytest.raises(TransportError, match="cannot read the addresses"):
            interface_addresses()
        with pytest.raises(TransportError, match="cannot watch the addresses"):
            open_watch()

    on_host(body, ("socket", 0, socket.AF_NETLINK, errno.EAFNOSUPPORT))
