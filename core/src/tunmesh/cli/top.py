"""``tunmesh top``: a live view of the running node. The only module that knows rich."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunmesh.admin.client import ask
from tunmesh.admin.status import PeerStatus, Status
from tunmesh.cli.rates import Rates, Traffic, bits, sparkline
from tunmesh.cli.status import find_socket, safe_line, seconds
from tunmesh.errors import AdminError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_BARS = 15
#: Columns of output that goes to no terminal.
_WIDTH = 160
_COLOURS = {"up": "green", "connecting": "yellow", "stale": "yellow", "down": "red"}


def top_command(args: argparse.Namespace) -> int:
    """Show the node until Ctrl-C, or once."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH, color_system=None)
    frames = _frames(find_socket(args), args.interval)
    with contextlib.suppress(KeyboardInterrupt):
        if args.once:
            console.print(next(frames))
        elif console.is_terminal:
            with Live(next(frames), console=console, screen=True, auto_refresh=False) as live:
                for frame in frames:
                    live.update(frame, refresh=True)
        else:
            for frame in frames:
                console.print(frame)
    return 0


def _frames(path: Path, interval: float) -> Iterator[Group]:
    """A frame each interval; a node that does not answer any longer is shown as it was."""
    rates = Rates()
    status = _status(path)  # if there is no node, that is an error
    rates.add(status, time.monotonic())
    while True:
        time.sleep(interval)
        problem = ""
        try:
            status = _status(path)
        except AdminError as error:
            problem = str(error)
        else:
            rates.add(status, time.monotonic())
        yield frame(status, rates, problem)


def _status(path: Path) -> Status:
    document = ask(path, "status")
    try:
        return msgspec.convert(document, Status)
    except msgspec.ValidationError as error:
        raise AdminError(f"the node's answer is of another version: {error}") from error


def frame(status: Status, rates: Rates, problem: str = "") -> Group:
    """What is shown at one moment.

    Args:
        status: The newest document.
        rates: That it was added to.
        problem: Why the document is not new.
    """
    parts: list[Text | Table] = [*_head(status, rates)]
    if problem:
        parts.append(Text(safe_line(problem), style="bold red"))
    parts += [Text(), _peers(status, rates)]
    if any(status.drops.values()):
        parts += [Text(), _drops(status, rates)]
    return Group(*parts)


def _head(status: Status, rates: Rates) -> Iterator[Text]:
    node, up = status.node, sum(peer.state == "up" for peer in status.peers)
    health = "healthy" if node.healthy else "NOT HEALTHY"
    yield Text(
        safe_line(
            f"{node.name}  {status.mesh.name}  {status.device.name}  "
            f"up {seconds(node.uptime_s)}  {health}  {up} of {len(status.peers)} peers up"
        ),
        style="bold",
    )
    yield Text("received {:>12}  {}  sent {:>12}  {}".format(*_cells(rates.total)))
    for warning in (*status.conflicts, *status.warnings):
        yield Text(safe_line(warning), style="yellow")


def _cells(traffic: Traffic) -> list[str]:
    """Both directions, received and sent: the rate now, and its history."""
    return [
        cell
        for history in (traffic.received, traffic.sent)
        for cell in (bits(history[-1] if history else 0.0), sparkline(history, _BARS))
    ]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in {"RTT", "LOSS", "RECEIVED", "SENT", "TOTAL", "A SECOND"}
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    return table


def _peers(status: Status, rates: Rates) -> Table:
    table = _table("PEER", "STATE", "VIA", "RTT", "LOSS", "RECEIVED", "", "SENT", "", "PATH")
    for peer in sorted(status.peers, key=lambda peer: peer.name):
        traffic = rates.peers.get(peer.id, Traffic())
        path = next((link.endpoint for link in peer.links if link.active), "-")
        table.add_row(
            Text(safe_line(peer.name)),
            Text(safe_line(peer.state), style=_COLOURS.get(peer.state, "")),
            *map(Text, (safe_line(peer.via), *_quality(peer), *_cells(traffic), safe_line(path))),
        )
    return table


def _quality(peer: PeerStatus) -> tuple[str, str]:
    """Round-trip time and loss of the active path."""
    link = next((link for link in peer.links if link.active), None)
    if link is None:
        return "-", "-"
    rtt = "-" if link.rtt_ms is None else f"{link.rtt_ms:.2f} ms"
    return rtt, f"{link.loss:.1%}"


def _drops(status: Status, rates: Rates) -> Table:
    table = _table("DROPPED", "TOTAL", "A SECOND")
    rows = [(rates.drops.get(r, 0.0), count, r) for r, count in status.drops.items() if count]
    for rate, count, reason in sorted(rows, reverse=True):
        table.add_row(Text(safe_line(reason)), str(count), f"{rate:.1f}")
    return table
