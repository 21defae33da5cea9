"""Types of single values beyond what msgspec knows: how they are read and written."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, TypeAlias

from tunmesh.durations import Duration
from tunmesh.interfaces.tun import Interface, Network

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def _of_text(parse: Callable[[str], object]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        raise ValueError(f"expected a string, got {kind_of(value)}")

    return read


def parse_network(text: str) -> Network:
    """A prefix.

    Raises:
        ValueError: It is none, or has bits beyond its length.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f'"{text}" is not a prefix: write one as "10.42.0.0/16" or "fd42::/48"'
            ) from None
        raise ValueError(f'"{text}" has bits beyond its length: write "{meant}"') from None


def parse_interface(text: str) -> Interface:
    """An address with the length of its prefix.

    Raises:
        ValueError: It is none, or has no length.
    """
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is not an address: write one as "10.42.1.1/24" or "fd42:0:0:1::1/64"'
        ) from None
    if "/" not in text:
        raise ValueError(f'"{text}" lacks the length of its prefix: write "{text}/N"')
    return interface


def parse_listen(text: str) -> tuple[str, int]:
    """The host and the port of ``127.0.0.1:9110`` or ``[::1]:9110``.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f'"{text}" has no port: write it as "127.0.0.1:9110"')
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f'"{text}" has no IP address: write it as "127.0.0.1:9110"') from None
    if (address.version == 6) != (bare != host):
        raise ValueError(f'"{text}": only IPv6 addresses stand in brackets')
    return bare, int(port)


def parse_auto(text: str) -> int | None:
    """The length of the local prefix in "auto" (None) or "auto/N".

    Raises:
        ValueError: It is neither of them.
    """
    word, slash, length = text.partition("/")
    if word == "auto" and not slash:
        return None
    if word == "auto" and length.isascii() and length.isdigit() and 0 < int(length) <= 32:
        return int(length)
    raise ValueError(f'"{text}" is neither "auto" nor "auto/N" with N from 1 to 32')


def is_auto(text: str) -> bool:
    """Whether an address of this node is to be found by the node itself."""
    return text.partition("/")[0] == "auto"


def _duration(value: object) -> Duration:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return Duration(value)
    raise ValueError(f"expected a duration, got {kind_of(value)}")


#: How each type is read. Raises ValueError.
READERS: dict[Any, Callable[[object], object]] = {
    Duration: _duration,
    Address: _of_text(ipaddress.ip_address),
    Interface: _of_text(parse_interface),
    Network: _of_text(parse_network),
}

#: The JSON Schema of each type.
SCHEMAS: dict[Any, dict[str, Any]] = {
    Duration: {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {
                "type": "string",
                "pattern": (
                    r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h|d)(\.\. *[0-9]+(\.[0-9]+)? *(ms|s|m|h|d))?$"
                ),
            },
        ]
    },
    Address: {"type": "string"},
    Interface: {"type": "string"},
    Network: {"type": "string"},
}

_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    dict: "a table",
    list: "an array",
}


def kind_of(value: object) -> str:
    """What TOML calls a value of this type."""
    return _KINDS.get(type(value), "a date or time")
