"""What notification hooks are told: small frozen records, never the core's own objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeInfo:
    """This node.

    Attributes:
        id: 32 hexadecimal digits.
        name: Its name.
        device: Name of the TUN device.
        addresses: Its overlay addresses with their prefixes.
    """

    id: str
    name: str
    device: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class PeerInfo:
    """Another node.

    Attributes:
        id: 32 hexadecimal digits.
        name: Its name.
        addresses: Its overlay addresses, without prefixes.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
