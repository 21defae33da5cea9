"""The hooks of this distribution. Importing it is cheap: whatever is heavy waits for its use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh.plugin import TunRegistration, hookimpl
from tunmesh_tun_linux.options import Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tunmesh.plugin import Tun, TunContext


@hookimpl
def tunmesh_tun_backends() -> Iterable[TunRegistration]:
    """Offer the Linux TUN device."""
    return [
        TunRegistration(
            summary="Linux TUN device with checksum and segmentation offloads",
            factory=_linux_tun,
            options=Options,
        )
    ]


@hookimpl
def tunmesh_add_commands(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``tunmesh demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="form a mesh in network namespaces on this machine, measure it, clean up",
        description=(
            "Builds a mesh of real nodes in network namespaces on this machine, shows it form, "
            "pings over it, measures throughput and removes everything again. Needs no "
            "configuration, and no root where the kernel allows user namespaces."
        ),
    )
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="2 to 32, default 3")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the mesh running after the measurements, until Ctrl-C",
    )
    parser.add_argument(
        "--plugins",
        default=None,
        metavar="A,B",
        help="plugins of every node (default: those of the built-in list that are installed)",
    )
    parser.set_defaults(handler=_demo)


def _linux_tun(context: TunContext) -> Tun:
    from tunmesh_tun_linux.device import LinuxTun  # noqa: PLC0415 - brings pyroute2

    return LinuxTun(context)


def _demo(args: argparse.Namespace) -> int:
    from tunmesh_tun_linux.demo.command import run  # noqa: PLC0415 - only for the demo

    return run(nodes=args.nodes, keep=args.keep, plugins=args.plugins)
