"""The arguments of the commands that find out what is going on, and why."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tunmesh.cli.arguments import add_file, add_json, add_node, lazy

if TYPE_CHECKING:
    from tunmesh.cli.arguments import Subparsers


def add_diagnosis(commands: Subparsers) -> None:
    """Add ``top``, ``explain``, ``capture``, ``doctor`` and ``completion``."""
    top = commands.add_parser(
        "top",
        help="show peers, throughput, paths and drops, live",
        description="Shows peers, throughput, round-trip times, loss, paths and drops of the "
        "running node, anew each second, until Ctrl-C.",
    )
    top.add_argument("--once", action="store_true", help="show them once, after one interval")
    top.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="S",
        help="seconds, 0.1 to 3600, default 1",
    )
    add_node(top)
    top.set_defaults(handler=lazy("tunmesh.cli.top:top_command"))
    explain = commands.add_parser(
        "explain",
        help="tell what would become of a packet",
        description="Tells what this node would do with a packet, and what the node says that it "
        "would go to.",
    )
    explain.add_argument("source", metavar="SRC", help="address of its sender; - for this node's")
    explain.add_argument("destination", metavar="DST", help="address of its receiver")
    add_node(explain)
    add_json(explain)
    explain.set_defaults(handler=lazy("tunmesh.cli.explain:explain_command"))
    capture = commands.add_parser(
        "capture",
        help="show packets as they pass, with what becomes of them",
        description="Shows packets as they pass the running node, with what becomes of them, until "
        "Ctrl-C. Superpackets are shown as the packets that they stand for.",
    )
    capture.add_argument(
        "--point",
        action="append",
        choices=("inside", "outside", "dropped"),
        help="where to look: what this host sends, what it is sent, what is dropped; may be "
        "repeated (default: all, so that a dropped packet shows twice)",
    )
    capture.add_argument("--count", type=_positive, metavar="N", help="end after so many packets")
    capture.add_argument("--seconds", type=float, metavar="N", help="end after so long")
    capture.add_argument(
        "--snaplen",
        type=_snap,
        default=65535,
        metavar="BYTES",
        help="bytes of a packet to keep, 20 to 65535 (default: all)",
    )
    capture.add_argument(
        "-w",
        "--write",
        metavar="FILE",
        help="write pcapng instead of text; - for the standard output",
    )
    add_node(capture)
    capture.set_defaults(handler=lazy("tunmesh.cli.capture:capture_command"))
    doctor = commands.add_parser(
        "doctor",
        help="tell what is wrong with this host, and how to mend it",
        description="Looks at this host, at the configuration and, if one runs, at the node. "
        "Changes nothing. Exit code 1 if something does not work.",
    )
    add_file(doctor)
    doctor.add_argument("--socket", metavar="PATH", help="the node's admin socket")
    add_json(doctor)
    doctor.set_defaults(handler=lazy("tunmesh.cli.doctor:doctor_command"))
    completion = commands.add_parser(
        "completion",
        help="print what makes a shell complete the commands",
        description="Prints a script that makes a shell complete the commands and their options, "
        "those of the selected plugins too.",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(handler=lazy("tunmesh.cli.completion:completion_command"))


def _interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 3600")
    return value


def _positive(text: str) -> int:
    return _number(text, 1, 2**63)


def _snap(text: str) -> int:
    return _number(text, 20, 65535)


def _number(text: str, least: int, most: int) -> int:
    """A number of the command line.

    Raises:
        ArgumentTypeError: It is none, or not within the bounds.
    """
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number from {least} on, as far as {most}"
        )
    return int(text)
