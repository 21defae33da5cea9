"""How each group is treated: its mode and its scope, by the longest prefix. Contains no I/O.

Built in, and overruled by rules of the configuration for the same or longer prefixes:

* 224.0.0.1 and ff02::1, every host's and never reported, are off.
* Groups of interface-local scope (ff01::/16) and of the reserved scope 0 are off (RFC 4291, 2.7):
  they do not leave a host.
* Everything else goes to its members, anywhere in the mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Generic, Literal, TypeAlias, TypeVar

from tunmesh.interfaces.tun import Network
from tunmesh_multicast_igmp.messages import Address

Mode: TypeAlias = Literal["members", "flood", "off"]
Scope: TypeAlias = Literal["local", "mesh"]

T = TypeVar("T")

#: Every group of each version of IP.
EVERY_GROUP: Mapping[int, Network] = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}
_BUILT_IN: dict[Network, Mode] = {
    **dict.fromkeys(EVERY_GROUP.values(), "members"),
    ip_network("224.0.0.1/32"): "off",
    ip_network("ff02::1/128"): "off",
    **{
        ip_network(f"ff{flags:x}{scope}::/16"): "off" for flags in range(16) for scope in "01"
    },
}  # fmt: skip
_SSM4 = ip_network("232.0.0.0/8")


class Rules:
    """The rules of one node.

    Args:
        modes: By prefix, whether its groups go to the members, to everybody, or nowhere.
        scopes: By prefix, whether its groups stay in the local subnet.
    """

    def __init__(self, modes: Mapping[Network, Mode], scopes: Mapping[Network, Scope]) -> None:
        all_modes: dict[Network, Mode] = {**_BUILT_IN, **modes}
        everywhere: dict[Network, Scope] = dict.fromkeys(EVERY_GROUP.values(), "mesh")
        all_scopes: dict[Network, Scope] = {**everywhere, **scopes}
        self._modes = _Table(all_modes)
        self._scopes = _Table(all_scopes)
        #: The prefixes that rules name, the shortest first: no rule divides one between its
        #: namesake and those that follow.
        self.prefixes: tuple[Network, ...] = tuple(
            sorted({*all_modes, *all_scopes}, key=lambda prefix: prefix.prefixlen)
        )

    def mode(self, group: Address, length: int = 128) -> Mode:
        """The mode of a group; of a prefix if `length` is its own."""
        return self._modes.find(group, length)

    def scope(self, group: Address, length: int = 128) -> Scope:
        """The scope of a group; of a prefix if `length` is its own."""
        return self._scopes.find(group, length)


class _Table(Generic[T]):
    """Values by prefix. Every group lies in one of the prefixes."""

    def __init__(self, values: Mapping[Network, T]) -> None:
        lengths: dict[tuple[int, int], dict[int, T]] = {}
        for prefix, value in values.items():
            shift = prefix.max_prefixlen - prefix.prefixlen
            by_bits = lengths.setdefault((prefix.version, shift), {})
            by_bits[int(prefix.network_address) >> shift] = value
        self._lengths = [(*key, lengths[key]) for key in sorted(lengths)]

    def find(self, group: Address, length: int) -> T:
        """The value of the longest prefix of at most this length that holds the group."""
        number, least = int(group), group.max_prefixlen - min(length, group.max_prefixlen)
        return next(
            by_bits[number >> shift]
            for version, shift, by_bits in self._lengths
            if version == group.version and shift >= least and number >> shift in by_bits
        )


def is_source_specific(group: Address) -> bool:
    """Whether a group is of the ranges of which only ``(S,G)`` exist (RFC 4607, section 1)."""
    if group.version == 4:
        return group in _SSM4
    packed = group.packed
    return packed[1] >> 4 == 3 and packed[2:4] == b"\0\0"
