"""Policy rules for a default route into the device, which the mesh itself must not take.

::

    29803: from all lookup main suppress_prefixlength 0    every more specific route first
    29804: from ADDRESS lookup main                        what talks from the underlay stays there
    29805: not from all fwmark MARK lookup 29805           then the tunnel, but for the mesh itself

Without the second kind a strict ``rp_filter`` would refuse what comes from the underlay, and
connections from there to this host would end when the default route comes.

Unlike routes, rules do not go with the device. What a killed node leaves behind does no harm: the
table that it leads to is empty then.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pyroute2 import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyroute2 import IPRoute

    from tunmesh.interfaces.tun import Interface

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The routing table of default routes into the device.
TABLE = 29_805
#: Marks our rules: ``ip rule show proto 84``.
PROTOCOL = 84

_TABLE_MAIN = 254
_FIB_RULE_INVERT = 0x02  # <linux/fib_rules.h>
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        priority: Which of the three kinds it is.
        source: Of the packets that it is for; None for all.
    """

    priority: int
    source: Address | None = None


def wanted_rules(version: int, underlay: Iterable[Interface]) -> list[Rule]:
    """The rules that a default route of a version of IP needs, in their order.

    Args:
        version: Of IP.
        underlay: Addresses of this host on other interfaces.
    """
    sources = sorted({item.ip for item in underlay if item.version == version}, key=int)
    return [Rule(TABLE - 2), *(Rule(TABLE - 1, source) for source in sources), Rule(TABLE)]


def apply_rules(
    netlink: IPRoute, versions: set[int], underlay: Iterable[Interface], mark: int
) -> Iterator[tuple[int, NetlinkError]]:
    """Have the rules for some versions of IP, and no others.

    Args:
        netlink: The socket.
        versions: Those with a default route into the device.
        underlay: Addresses of this host on other interfaces.
        mark: Of the mesh's own sockets.

    Yields:
        What the host refused: the version and the error.
    """
    underlay = tuple(underlay)
    for version, family in _FAMILY.items():
        wanted = wanted_rules(version, underlay) if version in versions else []
        present = _present(netlink, family)
        changes = [("add", rule) for rule in wanted if rule not in present]
        changes += [("del", rule) for rule in present if rule not in wanted]
        for command, rule in changes:
            try:
                netlink.rule(
                    command, family=family, protocol=PROTOCOL, **rule_arguments(rule, mark)
                )
            except NetlinkError as exc:
                if exc.code not in {errno.EEXIST, errno.ENOENT}:
                    yield version, exc


def _present(netlink: IPRoute, family: int) -> list[Rule]:
    found = []
    for message in netlink.get_rules(family=family):
        if message.get_attr("FRA_PROTOCOL") == PROTOCOL:
            source = message.get_attr("FRA_SRC")
            address = ipaddress.ip_address(source) if source else None
            found.append(Rule(message.get_attr("FRA_PRIORITY"), address))
    return found


def rule_arguments(rule: Rule, mark: int) -> dict[str, Any]:
    """The arguments for `pyroute2.IPRoute.rule`, but for the family and the protocol."""
    if rule.priority == TABLE:
        kind = {"table": TABLE, "fwmark": mark, "flags": _FIB_RULE_INVERT}
    elif rule.source is None:
        kind = {"table": _TABLE_MAIN, "suppress_prefixlen": 0}
    else:
        kind = {"table": _TABLE_MAIN}
    source = {} if rule.source is None else {"src": str(rule.source)}
    return {"priority": rule.priority, **kind, **source}
