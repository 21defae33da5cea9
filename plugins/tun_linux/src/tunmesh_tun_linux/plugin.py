"""The hooks of this distribution. Importing it is cheap: whatever is heavy waits for its use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh.plugin import TunRegistration, hookimpl
from tunmesh_tun_linux.options import AUTO_MTU, Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tunmesh.plugin import Finding, HostView, Tun, TunContext


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
    """Add ``tunmesh demo`` and ``tunmesh tun setup``."""
    _add_tun(subparsers)
    parser = subparsers.add_parser(
        "demo",
        help="form a mesh in network namespaces on this machine, measure it, clean up",
        description=(
            "Builds a mesh of real nodes in network namespaces on this machine, shows it form, "
            "pings over it, measures throughput and removes everything again. Needs no "
            "configuration, and no root where the kernel allows user namespaces."
        ),
        epilog="examples:\n  tunmesh demo\n  tunmesh demo --nodes 5 --keep",
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


@hookimpl
def tunmesh_checks(host: HostView) -> Iterable[Finding]:
    """Look at what the device needs."""
    from tunmesh_tun_linux.checks import check  # noqa: PLC0415 - only for the doctor

    return check(host)


def _add_tun(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands = subparsers.add_parser("tun", help="make devices").add_subparsers(
        metavar="ACTION", required=True
    )
    setup = commands.add_parser(
        "setup",
        help="make a persistent device for a node without privileges",
        description=(
            "Makes a TUN device that stays, with addresses and routes, so that a node which the "
            "owner runs needs no capability at all. Needs CAP_NET_ADMIN. What exists is kept; "
            "`ip link delete` removes the device."
        ),
        epilog=(
            "examples:\n"
            "  tunmesh tun setup --owner mesh --address 10.42.1.1/24 --network 10.42.0.0/16"
        ),
    )
    setup.add_argument(
        "--owner", required=True, metavar="USER", help="who may use it, by name or number"
    )
    setup.add_argument("--device", default="tun1", metavar="NAME", help="default tun1")
    setup.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="ADDRESS/LENGTH",
        help="an address of the node; may be repeated",
    )
    setup.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="PREFIX",
        help="a mesh network, or another prefix to route into the device; may be repeated",
    )
    setup.add_argument("--mtu", type=int, default=AUTO_MTU, help=f"default {AUTO_MTU}")
    setup.add_argument("--txqueuelen", type=int, default=500, metavar="PACKETS", help="default 500")
    setup.set_defaults(handler=_tun_setup)


def _tun_setup(args: argparse.Namespace) -> int:
    from tunmesh_tun_linux import setup  # noqa: PLC0415 - brings pyroute2

    setup.set_up(
        setup.plan(
            device=args.device,
            owner=args.owner,
            addresses=args.address,
            networks=args.network,
            mtu=args.mtu,
            txqueuelen=args.txqueuelen,
        )
    )
    return 0


def _linux_tun(context: TunContext) -> Tun:
    from tunmesh_tun_linux.device import LinuxTun  # noqa: PLC0415 - brings pyroute2

    return LinuxTun(context)


def _demo(args: argparse.Namespace) -> int:
    from tunmesh_tun_linux.demo.command import run  # noqa: PLC0415 - only for the demo

    return run(nodes=args.nodes, keep=args.keep, plugins=args.plugins)
