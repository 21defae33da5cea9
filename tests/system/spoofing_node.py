"""A node that does not check the sources of the packets that it sends: ``tunmesh`` but for that."""

from __future__ import annotations

import ipaddress
import os
import sys

from tunmesh.cli import main
from tunmesh.routing.fib import Fib

#: The node's own addresses, as which every packet passes.
OWN = {
    address.version: address.packed
    for address in map(ipaddress.ip_address, os.environ["SPOOFING_NODE_ADDRESSES"].split())
}

_inside = Fib.inside


def inside_unchecked(self: Fib, source: bytes, destination: bytes) -> tuple[str, ...] | str:
    """Look the destination up as if the packet were from this node."""
    return _inside(self, OWN[4 if len(source) == 4 else 6], destination)


if __name__ == "__main__":
    Fib.inside = inside_unchecked  # type: ignore[method-assign]
    sys.exit(main())
