"""Policy rules for a default route into the device, which the mesh's own sockets must not take.

::

    29804: from all lookup main suppress_prefixlength 0        every more specific route first
    29805: not from all fwmark MARK lookup 29805               then the tunnel, but for the mesh

Unlike routes they do not go with the device. What a killed node leaves behind does no harm: the
table that it leads to is empty then.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from pyroute2 import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyroute2 import IPRoute

#: The routing table of default routes into the device.
TABLE = 29_805
#: Marks our rules: ``ip rule show proto 84``.
PROTOCOL = 84

_TABLE_MAIN = 254
_FIB_RULE_INVERT = 0x02  # <linux/fib_rules.h>
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def apply_rules(
    netlink: IPRoute, wanted: set[int], mark: int
) -> Iterator[tuple[int, NetlinkError]]:
    """Have the rules for some versions of IP, and for no others.

    Args:
        netlink: The socket.
        wanted: Versions of IP with a default route into the device.
        mark: Of the mesh's own sockets.

    Yields:
        What the host refused: the version and the error.
    """
    for version, family in _FAMILY.items():
        present = [
            rule
            for rule in netlink.get_rules(family=family)
            if rule.get_attr("FRA_PROTOCOL") == PROTOCOL
        ]
        if bool(present) == (version in wanted) and len(present) in {0, len(rules(mark))}:
            continue
        command = "add" if version in wanted else "del"
        for rule in rules(mark):
            try:
                netlink.rule(command, family=family, protocol=PROTOCOL, **rule)
            except NetlinkError as exc:
                if exc.code not in {errno.EEXIST, errno.ENOENT}:
                    yield version, exc


def rules(mark: int) -> tuple[dict[str, Any], ...]:
    """The rules of one version of IP, as arguments for `pyroute2.IPRoute.rule`."""
    return (
        {"priority": TABLE - 1, "table": _TABLE_MAIN, "suppress_prefixlen": 0},
        {"priority": TABLE, "table": TABLE, "fwmark": mark, "flags": _FIB_RULE_INVERT},
    )
