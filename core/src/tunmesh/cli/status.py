"""Commands that ask the running node: ``status``, ``peers``, ``routes``, ``groups``, ``stop``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tunmesh.admin.client import ask
from tunmesh.admin.location import RUN_DIRECTORY, only_socket, socket_path
from tunmesh.admin.status import LinkStatus, MembershipStatus, MeshStatus, PeerStatus, Status
from tunmesh.errors import AdminError
from tunmesh.logs import safe

if TYPE_CHECKING:
    import argparse


def status_command(args: argparse.Namespace) -> int:
    """Show the running node."""
    return _show(args, overview)


def peers_command(args: argparse.Namespace) -> int:
    """Show the other nodes."""
    return _show(args, lambda status: peer_table(status.peers), "peers")


def routes_command(args: argparse.Namespace) -> int:
    """Show the routes of the mesh."""
    return _show(args, route_table, "routes")


def groups_command(args: argparse.Namespace) -> int:
    """Show the multicast groups of the mesh."""
    return _show(args, group_table, "groups")


def stop_command(args: argparse.Namespace) -> int:
    """Ask the running node to stop."""
    ask(find_socket(args), "stop")
    return 0


def find_socket(args: argparse.Namespace) -> Path:
    """The admin socket that the command line means.

    That is ``--socket``; else the one of the configuration, if it names a socket or a device; else
    that of the only node of this host.

    Raises:
        AdminError: Nothing tells which node is meant.
        ConfigError: The configuration cannot be used.
    """
    if args.socket:
        return Path(args.socket)
    from tunmesh.config.load import load_config  # noqa: PLC0415  # slow, and not always needed

    config = load_config(args.config, environ=os.environ)
    configured = config.admin.socket
    device = config.plugins.tables.get("tun_linux", {}).get("device", "")
    if device or (configured and "<device>" not in configured):
        return socket_path(configured, device)
    return only_socket(Path(configured).parent if configured else RUN_DIRECTORY)


def _show(
    args: argparse.Namespace, render: Callable[[Status], Iterable[str]], part: str = ""
) -> int:
    document = ask(find_socket(args), "status")
    if args.json:
        # As it came, so that a newer node's additions are shown too.
        shown = document[part] if part else document
        text = msgspec.json.format(msgspec.json.encode(shown), indent=1).decode()
    else:
        try:
            status = msgspec.convert(document, Status)
        except msgspec.ValidationError as exc:
            raise AdminError(f"the node's answer is of another version: {exc}") from exc
        text = "\n".join(render(status))
    sys.stdout.write(text + "\n")
    return 0


def overview(status: Status) -> list[str]:
    """The lines of ``tunmesh status``."""
    node, mesh, device = status.node, status.mesh, status.device
    health = "healthy" if node.healthy else "NOT HEALTHY"
    facts = [
        ["node", f"{safe(node.name)}  {node.id}  up {seconds(node.uptime_s)}  {health}"],
        ["mesh", f"{safe(mesh.name)}  {_list(mesh.networks)}  trust: {mesh.trust}"],
        *([["secrets", _secrets(mesh)]] if len(mesh.secrets) > 1 or mesh.peers_old_secret else []),
        ["device", f"{safe(device.name)}  {device.backend}  mtu {device.mtu} bytes"],
        ["addresses", _list(node.addresses)],
        ["subnets", _list(node.subnets)],
        ["endpoints", _list(node.endpoints)],
        ["plugins", _list(f"{plugin.name} ({plugin.state})" for plugin in status.plugins)],
        ["drops", _list(f"{reason} {n}" for reason, n in sorted(status.drops.items()) if n)],
        *(["conflict", line] for line in status.conflicts),
        *(["refused", f"{r.prefix} of {r.peer}: {r.reason}"] for r in status.refused),
        *(["warning", line] for line in status.warnings),
    ]
    return [f"tunmesh {safe(status.version)}", *columns(facts), "", *peer_table(status.peers)]


def _secrets(mesh: MeshStatus) -> str:
    """The fingerprints of several secrets, of which the first is used, and who is behind."""
    return f"{_list(mesh.secrets)}  peers on another than the first: {mesh.peers_old_secret}"


def peer_table(peers: Sequence[PeerStatus]) -> list[str]:
    """The lines of ``tunmesh peers``: the active path, or the first, of each peer."""
    rows = [
        [
            "PEER",
            "STATE",
            "VIA",
            "ADDRESSES",
            "LINK",
            "REASON",
            "RTT",
            "MTU",
            "RECEIVED",
            "SENT",
            "SEEN",
        ]
    ]
    for peer in sorted(peers, key=lambda peer: peer.name):
        link = next((link for link in peer.links if link.active), None) or next(
            iter(peer.links), None
        )
        rows.append(
            [
                peer.name,
                peer.state,
                peer.via,
                _list(peer.addresses, ","),
                *_link_cells(link),
                size(peer.rx_bytes),
                size(peer.tx_bytes),
                "-" if peer.last_seen_s is None else seconds(peer.last_seen_s) + " ago",
            ]
        )
    return columns(rows)


_LINK_COLUMNS = ("LINK", "REASON", "RTT", "MTU")


def _link_cells(link: LinkStatus | None) -> list[str]:
    if link is None:
        return ["-", "-", "-", "-"]
    rtt = "-" if link.rtt_ms is None else f"{link.rtt_ms:.2f} ms"
    endpoint = link.endpoint if link.transport != "relay" else "relay"  # `via` tells the rest
    reason = f"{link.reason}, {seconds(link.since_s)} ago" if link.reason else "-"
    return [endpoint, reason, rtt, str(link.mtu)]


def route_table(status: Status) -> list[str]:
    """The lines of ``tunmesh routes``."""
    rows = [["PREFIX", "KIND", "PEERS", "METRIC", "SOURCE"]]
    rows += [
        [
            route.prefix,
            route.kind,
            _list(route.peers, ","),
            str(route.metric) if route.kind == "subnet" else "-",  # of others all are used
            route.source,
        ]
        for route in status.routes
    ]
    return columns(rows)


def group_table(status: Status) -> list[str]:
    """The lines of ``tunmesh groups``: who wants what, and what this host sent."""
    rows = [["GROUP", "SOURCES", "LOCAL", "MEMBERS", "SENT", "COPIES", "LIMITED"]]
    rows += [
        [
            group.group,
            "any" if group.sources is None else _list(group.sources, ","),
            "yes" if group.local else "no",
            _list(map(_member, group.memberships), ","),
            str(group.packets),
            str(group.replicas),
            str(group.rate_limited),
        ]
        for group in status.groups
    ]
    return columns(rows)


def _member(membership: MembershipStatus) -> str:
    """A node, with the sources that it wants or does not want."""
    sources = " ".join(membership.sources)
    if membership.mode == "include":
        return f"{membership.node}({sources})"
    return f"{membership.node}(not {sources})" if sources else membership.node


def size(count: float) -> str:
    """Bytes for a person: ``17 B``, ``1.5 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    unit = 0
    count /= 1024
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.1f} {_UNITS[unit]}"


_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def seconds(duration: float) -> str:
    """A duration for a person, in its two largest units: ``0.3 s``, ``42 s``, ``3 h 5 min``."""
    if duration < 10:
        return f"{duration:.1f} s"
    whole = int(duration)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def _list(items: Iterable[str], separator: str = "  ") -> str:
    return separator.join(safe_line(item) for item in items) or "-"


def safe_line(text: str) -> str:
    """The text without what could end the line or steer the terminal; spaces stay."""
    return " ".join(safe(word) for word in text.split(" "))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, two spaces apart."""
    shown = [[safe_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
