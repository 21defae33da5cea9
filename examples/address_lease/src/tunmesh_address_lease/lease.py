"""A lease: which addresses, until when, and when to ask for it again. Contains no I/O.

::

    POST URL/leases/NODE-ID   {"name": "…", "addresses": ["10.42.0.7/24"]}     what it had
    200                       {"addresses": ["10.42.0.7/24"], "seconds": 600}  what it has
    DELETE URL/leases/NODE-ID                                                  it stops
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface
from typing import Annotated

import msgspec

from tunmesh.interfaces.tun import Interface, Network

#: Seconds between tries while the server does not grant anything: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Answer(msgspec.Struct, frozen=True):
    """What the server grants.

    Attributes:
        addresses: Each with the prefix of its local subnet.
        seconds: For how long.
    """

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    seconds: Annotated[float, msgspec.Meta(ge=1, le=10 * 365 * 86400)]


def decode_untrusted(
    body: bytes, networks: Sequence[Network]
) -> tuple[tuple[Interface, ...], float]:
    """The addresses and seconds of an answer.

    Args:
        body: As it came.
        networks: The mesh networks, in which the addresses have to lie.

    Raises:
        ValueError: It is no answer, or of no use here.
    """
    answer = msgspec.json.decode(body, type=Answer)  # what it raises is a ValueError
    addresses = tuple(dict.fromkeys(map(ip_interface, answer.addresses)))
    for address in addresses:
        if not any(address.ip in network for network in networks):
            raise ValueError(f"{address} lies in no network of the mesh")
    return addresses, answer.seconds


class Lease:
    """The lease of one node.

    Args:
        now: The time.

    Attributes:
        addresses: Those that it has.
        next_attempt: When to ask the server.
    """

    def __init__(self, now: float) -> None:
        self.addresses: tuple[Interface, ...] = ()
        self.next_attempt = now
        self._expires = float("inf")
        self._pause = _FIRST_PAUSE

    def granted(self, addresses: tuple[Interface, ...], seconds: float, now: float) -> None:
        """The server granted a lease: it is renewed in the middle of its time."""
        self.addresses = addresses
        self._expires = now + seconds
        self._pause = _FIRST_PAUSE
        self.next_attempt = now + seconds / 2

    def failed(self, now: float) -> None:
        """The server did not: the lease holds as long as it did, and there is another try."""
        self.next_attempt = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def expire(self, now: float) -> bool:
        """Give the addresses up if their time is over; whether it is."""
        if not self.addresses or now < self._expires:
            return False
        self.addresses = ()
        self._expires = float("inf")
        return True

    def deadline(self) -> float:
        """When something is to be done."""
        return min(self.next_attempt, self._expires)
