"""Rules, compiled from the options. Contains no I/O and knows no time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, TypeAlias

from tunmesh.errors import ConfigError
from tunmesh.plugin import Flow

if TYPE_CHECKING:
    from tunmesh_policy_access.plugin import Options, RuleOptions

Address: TypeAlias = IPv4Address | IPv6Address

_PROTOCOLS: Mapping[str, frozenset[int]] = {
    "tcp": frozenset({6}),
    "udp": frozenset({17}),
    "icmp": frozenset({1, 58}),
}
#: Those of which `Flow` knows ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True)
class End:
    """Who is at one end of a flow.

    Attributes:
        address: Its address.
        labels: The id and the name of its node.
    """

    address: Address
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parties:
    """Some nodes and prefixes; without any, everybody.

    Attributes:
        nodes: Names and ids.
        prefixes: Prefixes.
    """

    nodes: frozenset[str] = frozenset()
    prefixes: tuple[IPv4Network | IPv6Network, ...] = ()

    def hold(self, end: End) -> bool:
        """Whether it is one of them."""
        if not self.nodes and not self.prefixes:
            return True
        if any(label in self.nodes for label in end.labels):
            return True
        return any(end.address in prefix for prefix in self.prefixes)


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        allow: Whether what fits may pass.
        source: Who sends.
        destination: Who receives.
        protocols: Which protocols; empty for all.
        ports: Which destination ports; empty for all.
    """

    allow: bool
    source: Parties
    destination: Parties
    protocols: frozenset[int]
    ports: tuple[range, ...]

    def fits(self, flow: Flow, source: End, destination: End) -> bool:
        """Whether the rule is about a flow.

        Fragments have no ports that one could look at. So a rule that allows some ports does not
        fit them, and one that denies some does.
        """
        if self.protocols and flow.protocol not in self.protocols:
            return False
        if self.ports and flow.fragment:
            if self.allow:
                return False
        elif self.ports and not any(flow.destination_port in ports for ports in self.ports):
            return False
        return self.source.hold(source) and self.destination.hold(destination)


def compile_rules(options: Options) -> tuple[Rule, ...]:
    """The rules of the options.

    Raises:
        ConfigError: One of them, or a group, makes no sense; it has the key below the plugin's.
    """
    for name, members in options.groups.items():
        _parties(members, {}, f"groups.{name}")
    return tuple(
        _compile(rule, options.groups, f"rules[{number}]")
        for number, rule in enumerate(options.rules)
    )


def _compile(rule: RuleOptions, groups: Mapping[str, tuple[str, ...]], key: str) -> Rule:
    protocols = _protocols(rule.protocol, f"{key}.protocol")
    if rule.ports and not (protocols and protocols <= _WITH_PORTS):
        raise ConfigError("only go with a protocol that has ports, as tcp", key=f"{key}.ports")
    return Rule(
        allow=rule.action == "allow",
        source=_parties(rule.source, groups, f"{key}.source"),
        destination=_parties(rule.destination, groups, f"{key}.destination"),
        protocols=protocols,
        ports=tuple(_ports(text, f"{key}.ports") for text in rule.ports),
    )


def _protocols(text: str, key: str) -> frozenset[int]:
    if not text:
        return frozenset()
    if text in _PROTOCOLS:
        return _PROTOCOLS[text]
    if text.isdecimal() and int(text) < 256:
        return frozenset({int(text)})
    raise ConfigError(f'"{text}" is neither of {", ".join(_PROTOCOLS)} nor a number', key=key)


def _ports(text: str, key: str) -> range:
    match = _PORTS.fullmatch(text)
    if match:
        first, last = int(match[1]), int(match[2] or match[1])
        if first <= last < 65536:
            return range(first, last + 1)
    raise ConfigError(f'"{text}" is neither a port nor a range as 8000-8099', key=key)


def _parties(members: Iterable[str], groups: Mapping[str, tuple[str, ...]], key: str) -> Parties:
    nodes: set[str] = set()
    prefixes: list[IPv4Network | IPv6Network] = []
    for member in members:
        if member.startswith("@"):
            if member[1:] not in groups:
                known = ", ".join(f"@{name}" for name in groups) or "none"
                raise ConfigError(f'there is no group "{member}" here; known: {known}', key=key)
            group = _parties(groups[member[1:]], {}, f"groups.{member[1:]}")
            if group == Parties():  # it must not turn into everybody
                raise ConfigError(f'the group "{member}" is empty', key=key)
            nodes |= group.nodes
            prefixes += group.prefixes
        elif "/" in member or ":" in member or member.replace(".", "").isdecimal():
            try:
                prefixes.append(ip_network(member))
            except ValueError as error:
                raise ConfigError(f"{error}", key=key) from error
        else:
            nodes.add(member)
    return Parties(frozenset(nodes), tuple(prefixes))
