"""``tunmesh capture``: packets as they pass a running node, as text or as pcapng."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from tunmesh import __version__
from tunmesh.admin.client import follow
from tunmesh.admin.records import POINTS, Record, decode_batch
from tunmesh.cli import pcapng
from tunmesh.cli.status import find_socket, safe_line
from tunmesh.errors import AdminError, BadPacket, CommandError
from tunmesh.offload import adapt, check_frame_untrusted
from tunmesh.packet import describe

if TYPE_CHECKING:
    import argparse

_VNET = 10
_DESCRIPTIONS = {
    "inside": "packets of this host, on their way into the mesh",
    "outside": "packets of other nodes, on their way to this host",
    "dropped": "packets that are dropped, of both",
}


def capture_command(args: argparse.Namespace) -> int:
    """Show packets until there are enough of them, or Ctrl-C."""
    points = tuple(dict.fromkeys(args.point or POINTS))
    counts: Counter[str] = Counter()
    lost: dict[str, int] = {}
    until = time.monotonic() + args.seconds if args.seconds else float("inf")
    asked = follow(find_socket(args), "capture", until=until, points=points, snap=args.snaplen)
    with asked as messages, _output(args.write) as file:  # a refusal leaves a file as it is
        if file is not None:
            interfaces = [(point, _DESCRIPTIONS[point]) for point in POINTS]
            file.write(pcapng.section(f"tunmesh {__version__}", interfaces, args.snaplen))
            file.flush()
        with contextlib.suppress(KeyboardInterrupt):
            for message in messages:
                for record in _records(message, lost):
                    for data in packets_of(record):
                        if counts.total() == args.count:
                            break
                        counts[record.point] += 1
                        if file is None:
                            _print(record, data)
                        else:
                            _write(file, record, data, args.snaplen)
                (file or sys.stdout).flush()
                if counts.total() == args.count:
                    break
        if file is not None:
            for place, point in enumerate(POINTS):
                gone = lost.get(point, 0)
                total = counts[point] + gone
                file.write(pcapng.statistics(place, time.time_ns(), total, gone))
    text = f"{counts.total()} packets captured, {sum(lost.values())} lost for want of room"
    print(text, file=sys.stderr)
    return 0


def _records(message: bytes, lost: dict[str, int]) -> list[Record]:
    """What the node tells; `lost` says for how many it had no room."""
    try:
        batch = decode_batch(message)
    except msgspec.MsgspecError as error:
        raise AdminError(f"the node's answer is of another version: {error}") from error
    lost.update(batch.lost)
    return batch.records


def packets_of(record: Record) -> list[tuple[bytes, int, str]]:
    """The packets of a frame: what there is of each, its length, and what became of it.

    A superpacket is cut into those that the network would have seen, with their checksums. A frame
    that is no good one is shown as it is.
    """
    whole = len(record.frame) == record.length
    size = max(0, record.length - _VNET)
    try:
        if whole:
            check_frame_untrusted(record.frame)
    except BadPacket as error:
        return [(record.frame[_VNET:], size, f"{record.comment} ({error})")]
    if not whole:
        return [(record.frame[_VNET:], size, record.comment)]
    pieces = [piece[_VNET:] for piece in adapt(record.frame, frozenset())]
    of = f", segment of a superpacket of {len(pieces)}" if len(pieces) > 1 else ""
    return [(piece, len(piece), record.comment + of) for piece in pieces]


def _write(file: BinaryIO, record: Record, data: tuple[bytes, int, str], snap: int) -> None:
    packet, length, comment = data
    place = POINTS.index(record.point)
    block = pcapng.packet(
        place, record.time_ns, packet[:snap], length, comment, incoming=record.incoming
    )
    file.write(block)


def _print(record: Record, data: tuple[bytes, int, str]) -> None:
    packet, length, comment = data
    moment = datetime.fromtimestamp(record.time_ns / 1e9)  # noqa: DTZ006  # the reader's own time
    cut = "" if len(packet) == length else f", of {length}"
    line = f"{record.point:<7}  {describe(packet)}{cut}  {comment}"
    print(f"{moment:%H:%M:%S.%f}  {safe_line(line)}")


@contextlib.contextmanager
def _output(name: str | None) -> Iterator[BinaryIO | None]:
    """Where pcapng goes: a file that only its owner reads, the standard output, or nowhere.

    Raises:
        CommandError: It cannot be written there.
    """
    if name is None:
        yield None
    elif name == "-":
        if sys.stdout.isatty():
            raise CommandError("capture: -w - writes a file: give it to a program, | wireshark …")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as file:
            yield file
