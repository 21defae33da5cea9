"""What the helper process can be asked for, as messages of one size. Contains no I/O.

::

    0   operation u8 | family u8 | prefix length u8 | type u8 | scope u8 | - 3
    8   table u32 | flags u32 | priority u32 | mark u32
    24  address, 16 bytes | source, 16 bytes (IPv4 in the first four; all zero: none)

in network byte order. The answer is an error number as i32, 0 if all went well.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from tunmesh.errors import BadPacket
from tunmesh.interfaces.tun import Network
from tunmesh_tun_linux.rules import PROTOCOL, TABLE, Rule, rule_arguments

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_REQUEST = struct.Struct("!BBBBB3xIIII16s16s")
REQUEST_SIZE = _REQUEST.size
ANSWER = struct.Struct("!i")
#: The first message: the index of the device, which is the only one from then on.
BIND = struct.Struct("!I")

_FAMILIES = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_VERSIONS = {family: version for version, family in _FAMILIES.items()}

# <linux/rtnetlink.h>, <linux/if_addr.h>
IFA_F_NODAD = 0x02
TABLE_MAIN = 254
TABLE_LOCAL = 255
RTN_UNICAST = 1
RTN_BROADCAST = 3
#: What may be routed by kind and table.
_ROUTES = {(RTN_UNICAST, TABLE_MAIN), (RTN_UNICAST, TABLE), (RTN_BROADCAST, TABLE_LOCAL)}

_LINK_LOCAL = ipaddress.ip_network("fe80::/10")
#: Which a mesh may route into its device whatever its prefixes are.
_ALWAYS = tuple(
    map(ipaddress.ip_network, ("fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32"))
)


class Operation(IntEnum):
    """What to do; the opposite of each is the number beside it."""

    ADD_ADDRESS = 2
    REMOVE_ADDRESS = 3
    ADD_ROUTE = 4
    REMOVE_ROUTE = 5
    ADD_RULE = 6
    REMOVE_RULE = 7


_ADD = {"addr": Operation.ADD_ADDRESS, "route": Operation.ADD_ROUTE, "rule": Operation.ADD_RULE}
_KINDS = {operation: kind for kind, operation in _ADD.items()}


@dataclass(frozen=True)
class Request:
    """One change.

    Attributes:
        operation: What to do.
        version: Of IP.
        length: Of the prefix.
        kind: Of a route: ``RTN_…``.
        scope: Of a route.
        table: Of a route, or that a rule leads to.
        flags: Of an address or a rule.
        priority: Of a rule.
        mark: Of a rule.
        address: The address, or that of the route's prefix.
        source: The source that a route prefers, or that a rule is for.
    """

    operation: Operation
    version: int
    length: int = 0
    kind: int = 0
    scope: int = 0
    table: int = 0
    flags: int = 0
    priority: int = 0
    mark: int = 0
    address: Address | None = None
    source: Address | None = None

    def encode(self) -> bytes:
        """The message."""
        packed = [b"" if item is None else item.packed for item in (self.address, self.source)]
        return _REQUEST.pack(
            self.operation,
            self.version,
            self.length,
            self.kind,
            self.scope,
            self.table,
            self.flags,
            self.priority,
            self.mark,
            *packed,
        )

    @property
    def reverse(self) -> Request:
        """The request that takes this one back."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Request(**{**values, "operation": Operation(self.operation ^ 1)})

    @property
    def call(self) -> tuple[str, str, dict[str, Any]]:
        """The method of `pyroute2.IPRoute`, its command and its arguments but for the device."""
        command = "del" if self.operation & 1 else "add"
        kind = _KINDS[Operation(self.operation & ~1)]
        family = {"family": _FAMILIES[self.version]}
        if kind == "addr":
            arguments = {"address": str(self.address), "prefixlen": self.length}
            return kind, command, {**family, **arguments, "flags": self.flags}
        if kind == "route":
            arguments = {
                "dst": f"{self.address}/{self.length}",
                "proto": PROTOCOL,
                "table": self.table,
                "type": self.kind,
                "scope": self.scope,
            }
            source = {} if self.source is None else {"prefsrc": str(self.source)}
            return kind, command, {**family, **arguments, **source}
        rule = rule_arguments(Rule(self.priority, self.source), self.mark)
        return kind, command, {**family, "protocol": PROTOCOL, **rule}


def request(method: str, command: str, arguments: Mapping[str, Any]) -> Request:
    """The request for what a method of `pyroute2.IPRoute` would do with these arguments."""
    operation = Operation(_ADD[method] | (command == "del"))
    version = _VERSIONS[int(arguments["family"])]
    if method == "addr":
        return Request(
            operation,
            version,
            arguments["prefixlen"],
            flags=arguments.get("flags", 0),
            address=ipaddress.ip_address(arguments["address"]),
        )
    preferred = arguments.get("prefsrc" if method == "route" else "src")
    source = None if preferred is None else ipaddress.ip_address(preferred)
    if method == "route":
        prefix = ipaddress.ip_network(arguments["dst"])
        return Request(
            operation,
            version,
            prefix.prefixlen,
            kind=arguments["type"],
            scope=arguments["scope"],
            table=arguments["table"],
            address=prefix.network_address,
            source=source,
        )
    return Request(
        operation,
        version,
        priority=arguments["priority"],
        mark=arguments.get("fwmark", 0),
        source=source,
    )


def decode_request_untrusted(data: bytes) -> Request:
    """The request in a message.

    Raises:
        BadPacket: It is none.
    """
    if len(data) != REQUEST_SIZE:
        raise BadPacket(f"a request has {REQUEST_SIZE} bytes, not {len(data)}")
    operation, version, length, kind, scope, table, flags, priority, mark, *packed = (
        _REQUEST.unpack(data)
    )
    if version not in _FAMILIES or operation not in set(Operation):
        raise BadPacket("an unknown operation or version of IP")
    size = 4 if version == 4 else 16
    if length > 8 * size or any(any(item[size:]) for item in packed):
        raise BadPacket("an address or prefix that is too long")
    address, source = (ipaddress.ip_address(item[:size]) for item in packed)
    has_address = operation & ~1 != Operation.ADD_RULE
    return Request(
        Operation(operation),
        version,
        length,
        kind,
        scope,
        table,
        flags,
        priority,
        mark,
        address if has_address else None,
        source if any(source.packed) else None,
    )


@dataclass(frozen=True)
class Allowance:
    """What may be asked for.

    Attributes:
        networks: The mesh networks: addresses and routes.
        prefixes: Further prefixes that may be routed into the device.
    """

    networks: tuple[Network, ...]
    prefixes: tuple[Network, ...]

    def allows(self, request: Request) -> bool:
        """Whether a request may be carried out."""
        if request.operation & ~1 == Operation.ADD_ADDRESS:
            return request.flags in {0, IFA_F_NODAD} and self._allows_address(request)
        if request.operation & ~1 == Operation.ADD_ROUTE:
            return self._allows_route(request)
        default = any(
            prefix.prefixlen == 0 and prefix.version == request.version for prefix in self.prefixes
        )
        return default and request.priority in {TABLE, TABLE - 1, TABLE - 2}

    def _allows_address(self, request: Request) -> bool:
        assert request.address is not None
        address = ipaddress.ip_interface((request.address, request.length))
        return _inside(address.network, (*self.networks, _LINK_LOCAL))

    def _allows_route(self, request: Request) -> bool:
        assert request.address is not None
        try:
            prefix = ipaddress.ip_network((request.address, request.length))
        except ValueError:  # bits beyond the prefix
            return False
        if (request.kind, request.table) not in _ROUTES:
            return False
        return _inside(prefix, (*self.networks, *self.prefixes, *_ALWAYS))


def _inside(prefix: Network, allowed: tuple[Network, ...]) -> bool:
    return any(
        prefix.version == network.version
        and prefix.prefixlen >= network.prefixlen
        and prefix.network_address in network
        for network in allowed
    )
