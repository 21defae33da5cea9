"""What is counted on the way of a packet. Plain integers in a dict; nothing is logged here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: Every reason for which a packet or a datagram may be dropped. The names are an interface.
DROP_REASONS = (
    "unsupported",  # neither IPv4 nor IPv6, or a kind of unit that this version does not know
    "loopback",  # from inside, to this node's own address
    "broadcast_disabled",
    "outside_network",  # from inside, to a destination outside every network and subnet
    "no_route",  # inside a mesh network, but no node has that address
    "no_group",  # multicast without members
    "unknown_source",  # from inside, with a source that is not this node's
    "spoofed_source",  # from outside, with a source that is not the sending peer's
    "misrouted",  # from outside, to a destination that is not this node's
    "denied",  # by a policy that decides about flows
    "rate_limited",
    "bad_packet",  # malformed, whoever sent it
    "incomplete",  # a unit of which some slices never came
    "tun_error",  # refused by the device
    "expired",  # waited too long in a queue
    "queue_full",
    "replay",
    "auth_failed",
    "too_big",
    "peer_gone",  # the peer is known, but no session or no path to it is alive
    "error",
)


class Drops(dict[str, int]):
    """Dropped packets by reason: ``drops["no_route"] += 1``. Every reason exists from the start."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(DROP_REASONS, 0))

    def seen(self) -> dict[str, int]:
        """The reasons that occurred, with their counts."""
        return {reason: count for reason, count in self.items() if count}


def total(drops: Mapping[str, int]) -> int:
    """All drops together."""
    values: Iterator[int] = iter(drops.values())
    return sum(values)


def check_counters(found: object) -> dict[str, int]:
    """What foreign code counted, if it is counters by name.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(found, dict):
        raise TypeError(f"counters are a dict, not {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(name, str) or type(value) is not int:
            raise TypeError(f"a counter is a name and a whole number, not {name!r}: {value!r}")
    return found
