"""Addresses that a node takes by itself: which ones it tries, and when it leaves one to another.

Where a node looks follows from its key, so that it takes the same addresses again, and nodes that
start at once rarely meet. When two do meet, the claims tell whose the address is, and the other
one goes on to its next candidate. Contains no I/O.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from itertools import chain

from tunmesh.interfaces.tun import Interface, Network
from tunmesh.membership.claims import Claims
from tunmesh.membership.fields import Address

_CONTEXT = b"tunmesh/v1/auto"
#: The local subnet of IPv6, whatever the network's prefix (RFC 4291, section 2.5.4).
_SUBNET6 = 64
#: The longest prefix of IPv4 with a network and a broadcast address (RFC 3021).
_LONGEST_WITH_BROADCAST = 30


def local_length(network: Network, length: int | None) -> int:
    """The length of the local prefix of an address in a network.

    Args:
        network: The network.
        length: What was asked for, for IPv4; None for the network's own.
    """
    wanted = _SUBNET6 if network.version == 6 else (length or 0)
    return max(wanted, network.prefixlen)


def candidates(node_id: str, network: Network, length: int | None = None) -> Iterator[Interface]:
    """Every address of a network that a node may take, in the order in which it tries them.

    Nodes with one local prefix begin in its first subnet, so that they are each other's
    neighbours, and go on to the next one when that is full.

    Args:
        node_id: The node.
        network: The mesh network.
        length: As for `local_length`.
    """
    local = local_length(network, length)
    alone = network.version == 4 and local > _LONGEST_WITH_BROADCAST  # there are no neighbours
    for subnet in (network,) if alone else network.subnets(new_prefix=local):
        first, count = _hosts(subnet)
        text = f"{node_id} {subnet}".encode()
        digest = hashlib.sha256(_CONTEXT + text).digest()
        number = int.from_bytes(digest[:16], "big") % count
        step = int.from_bytes(digest[16:], "big") % count or 1
        while math.gcd(step, count) > 1:  # else some addresses would never be tried
            step += 1
        for _ in range(count):
            address = subnet.network_address + (first + number)
            yield ip_interface(f"{address}/{local}")
            number = (number + step) % count


def _hosts(subnet: Network) -> tuple[int, int]:
    """The number of the first address in a subnet that a node can have, and how many there are."""
    if subnet.version == 4 and subnet.prefixlen <= _LONGEST_WITH_BROADCAST:
        return 1, subnet.num_addresses - 2
    if subnet.version == 6 and subnet.num_addresses > 1:
        return 1, subnet.num_addresses - 1  # the first is any router's (RFC 4291, section 2.6.1)
    return 0, subnet.num_addresses


class AutoAddresses:
    """One address of each mesh network.

    Args:
        node_id: This node.
        networks: The mesh networks.
        length: Of the local prefix of IPv4, None for that of the network.
        kept: Addresses that the node had before, which are tried first.
        static: Addresses that the node has otherwise.

    """

    def __init__(
        self,
        node_id: str,
        networks: Iterable[Network],
        length: int | None,
        *,
        kept: Iterable[Interface] = (),
        static: Iterable[Address] = (),
    ) -> None:
        self._node_id = node_id
        self._length = length
        self._kept = tuple(kept)
        self._static = frozenset(static)
        self._chosen: dict[Network, Interface | None] = {
            network: self._next(network, None) for network in networks
        }

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """The addresses that the node has now."""
        return tuple(address for address in self._chosen.values() if address is not None)

    @property
    def full(self) -> tuple[Network, ...]:
        """The networks in which no address is left."""
        return tuple(network for network, address in self._chosen.items() if address is None)

    def settle(self, claims: Claims) -> bool:
        """Take other addresses in place of those that are others'; whether any changed."""
        changed = False
        for network, address in self._chosen.items():
            if address is None or claims.leaves(address.ip):
                chosen = self._next(network, claims)
                changed |= chosen != address
                self._chosen[network] = chosen
        return changed

    def _next(self, network: Network, claims: Claims | None) -> Interface | None:
        local = local_length(network, self._length)
        kept = (
            address
            for address in self._kept
            if address.version == network.version
            and address in network
            and address.network.prefixlen == local
        )
        for address in chain(kept, candidates(self._node_id, network, self._length)):
            if address.ip in self._static:
                continue
            if claims is None or (claims.free(address.ip) and not claims.leaves(address.ip)):
                return address
        return None
