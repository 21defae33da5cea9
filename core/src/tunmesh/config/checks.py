"""What must hold in a configuration beyond the type and the bounds of each value."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from itertools import combinations
from urllib.parse import urlsplit

from tunmesh.config.convert import Converter
from tunmesh.config.problems import join_key
from tunmesh.config.scalars import is_auto, parse_auto, parse_interface, parse_listen
from tunmesh.config.types import AdminOptions, Config, TimingOptions
from tunmesh.interfaces.tun import Interface, Network

#: What Prometheus takes, but for the names with two underscores that are its own.
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC_LABELS = frozenset(
    {"group", "instance", "job", "name", "peer", "plugin", "reason", "result", "state", "table",
     "transport", "version"}
)  # fmt: skip
_NO_URL = 'is no URL such as "udp://198.51.100.1:4567"'
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


def node_name(text: str, converter: Converter) -> str:
    """A node's name made of a host name: lower case, no domain, dashes for what is no letter.

    Args:
        text: The configured name; empty for the host name.
        converter: Takes the problem if nothing is left of the name.
    """
    name = _label(text or socket.gethostname())
    if not name and text:
        converter.problem("node.name", f'"{text}" has no letter or digit before its first dot')
    return name or "node"


def _label(text: str) -> str:
    label = text.lower().partition(".")[0]
    return re.sub(r"[^a-z0-9-]", "-", label)[:63].strip("-")


def check_complete(config: Config, converter: Converter) -> None:
    """Note what a node needs and the configuration lacks (except for secrets and plugins)."""
    if not config.mesh.networks and not _spoken_of(converter, "mesh.networks"):
        converter.problem("mesh.networks", 'is required, as networks = ["10.42.0.0/16"]')


def _spoken_of(converter: Converter, key: str) -> bool:
    """Whether a key has a problem already, so that its value is the default for now."""
    return any(problem.key.startswith(key) for problem in converter.problems)


def check_document(config: Config, converter: Converter) -> None:
    """Note every contradiction."""
    networks_known = not _spoken_of(converter, "mesh.networks")
    _check_networks(config.mesh.networks, converter)
    if config.mesh.secret and config.mesh.secret_file:
        converter.problem("mesh.secret", "is set, and mesh.secret_file too: keep one of them")
    _check_addresses(config, converter, networks_known=networks_known)
    _check_unique("node.subnets", [str(subnet.prefix) for subnet in config.node.subnets], converter)
    _check_urls("node.advertise", config.node.advertise, config.mesh.networks, converter)
    for name, group in config.bootstrap.items():
        key = join_key(join_key("bootstrap", name), "urls")
        _check_urls(key, group.urls, config.mesh.networks, converter)
    _check_timing(config.timing, converter)
    _check_admin(config.admin, converter)


def _check_networks(networks: tuple[Network, ...], converter: Converter) -> None:
    for index, network in enumerate(networks):
        key = f"mesh.networks[{index}]"
        if network.prefixlen == 0:
            converter.problem(key, f'"{network}" would take this host off its own network')
        elif network.is_multicast or network.is_loopback or network.is_link_local:
            converter.problem(key, f'"{network}" is reserved: use a private prefix')
    for (first, one), (second, other) in combinations(enumerate(networks), 2):
        if one.version == other.version and one.overlaps(other):
            converter.problem(
                f"mesh.networks[{second}]", f'"{other}" overlaps mesh.networks[{first}] "{one}"'
            )


def _check_addresses(config: Config, converter: Converter, *, networks_known: bool) -> None:
    seen: set[object] = set()
    for index, text in enumerate(config.node.addresses):
        key = f"node.addresses[{index}]"
        if is_auto(text):
            if "auto" in seen:
                converter.problem(key, '"auto" is named more than once: it covers every network')
            elif networks_known and (message := _auto_problem(text, config.mesh.networks)):
                converter.problem(key, message)
            seen.add("auto")
            continue
        try:
            interface = parse_interface(text)
        except ValueError as error:
            converter.problem(key, str(error))
            continue
        if interface.ip in seen:
            converter.problem(key, f"{interface.ip} is named more than once")
        seen.add(interface.ip)
        networks = config.mesh.networks if networks_known else (interface.network,)
        if message := _address_problem(interface, networks):
            converter.problem(key, message)


def _auto_problem(text: str, networks: Iterable[Network]) -> str:
    """What is wrong with "auto" or "auto/N", empty if nothing."""
    try:
        length = parse_auto(text)
    except ValueError as error:
        return str(error)
    if length is None:
        return ""
    ipv4 = [network for network in networks if network.version == 4]
    if not ipv4:
        return f'"{text}" is for IPv4, of which mesh.networks has none: write "auto"'
    for network in ipv4:
        if length < network.prefixlen:
            return f'the local subnet of "{text}" reaches beyond mesh.networks {network}'
    return ""


def _address_problem(interface: Interface, networks: Iterable[Network]) -> str:
    """What is wrong with an address of this node, empty if nothing."""
    address, local = interface.ip, interface.network
    has_hosts = local.num_addresses > 2  # a prefix of two is a point-to-point link (RFC 3021)
    if has_hosts and address == local.network_address:
        return f"{interface} is the prefix itself, not an address in it"
    if has_hosts and address == local.broadcast_address and address.version == 4:
        return f"{interface} is the broadcast address of its prefix"
    if address in _LINK_LOCAL:
        return ""
    around = [network for network in networks if address in network]
    if not around:
        return f"{address} is outside mesh.networks"
    if not any(local.prefixlen >= network.prefixlen for network in around):
        return f"the local subnet {local} reaches beyond mesh.networks {around[0]}"
    return ""


def hints(config: Config) -> list[str]:
    """What is allowed and hardly meant, one line each."""
    own = set(config.node.advertise)
    return [
        f'{join_key("bootstrap", name)}.urls: "{url}" is this node itself, by node.advertise'
        for name, group in config.bootstrap.items()
        for url in group.urls
        if url in own
    ]


def _check_urls(
    key: str, urls: tuple[str, ...], networks: tuple[Network, ...], converter: Converter
) -> None:
    for index, url in enumerate(urls):
        if message := _url_problem(url, networks):
            converter.problem(f"{key}[{index}]", f'"{url}" {message}')
    _check_unique(key, urls, converter)


def _url_problem(url: str, networks: Iterable[Network]) -> str:
    """What is wrong with the URL of a node, empty if nothing."""
    try:
        parts = urlsplit(url)
        # A transport may be told apart by paths instead of hosts: unix:///run/node.sock.
        place = parts.hostname or (
            not parts.netloc and parts.path.startswith("/") and url[-1] != "/"
        )
        valid = bool(parts.scheme and place) and parts.port != 0
    except ValueError:
        return _NO_URL
    if not valid:
        return _NO_URL
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return ""  # a name
    if any(address in network for network in networks):
        return "is inside mesh.networks: a mesh is not reached through itself"
    return ""


def _check_unique(key: str, values: Iterable[str], converter: Converter) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            converter.problem(f"{key}[{index}]", f'"{value}" is named more than once')
        seen.add(value)


def _check_timing(timing: TimingOptions, converter: Converter) -> None:
    for name in TimingOptions.__struct_fields__:
        if not float(getattr(timing, name)):
            converter.problem(f"timing.{name}", "must be more than 0")
    for low, high in (
        ("rekey_after", "reject_after"),
        ("reregister_local", "stale_local"),
        ("reregister_mesh", "stale_mesh"),
        ("keepalive", "stale_local"),
        ("keepalive", "stale_mesh"),
    ):
        if getattr(timing, low).high >= getattr(timing, high).low:
            converter.problem(f"timing.{high}", f"must be more than timing.{low}")


def _check_admin(options: AdminOptions, converter: Converter) -> None:
    if options.listen:
        try:
            parse_listen(options.listen)
        except ValueError as error:
            converter.problem("admin.listen", str(error))
    for name in options.labels:
        if not _LABEL.fullmatch(name) or name in _METRIC_LABELS:
            converter.problem(
                join_key("admin.labels", name),
                "cannot be a label of metrics: letters, digits and _, and none of "
                + ", ".join(sorted(_METRIC_LABELS)),
            )
