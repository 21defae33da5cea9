"""The hooks of the entry point ``igmp``; everything else is imported when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh.plugin import PolicyRegistration, hookimpl
from tunmesh_multicast_igmp.options import Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tunmesh.plugin import Finding, HostView, PolicyContext, RoutingPolicy


@hookimpl
def tunmesh_routing_policies() -> Iterable[PolicyRegistration]:
    """Offer multicast learned from IGMP and MLD."""
    return [
        PolicyRegistration(
            summary="multicast learned from IGMP and MLD, source-specific too",
            factory=_igmp_policy,
            options=Options,
        )
    ]


@hookimpl
def tunmesh_add_commands(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``tunmesh multicast send`` and ``tunmesh multicast join``."""
    parser = subparsers.add_parser("multicast", help="send to multicast groups, and join them")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    send = actions.add_parser(
        "send",
        help="send numbered datagrams to a group",
        description="Sends numbered datagrams to a group. Works without a mesh too.",
        epilog="examples:\n  tunmesh multicast send 239.1.2.3 --device tun1 --rate 100",
    )
    join = actions.add_parser(
        "join",
        help="join a group, and report loss, duplicates and latency",
        description=(
            "Joins a group and reports what arrives of `tunmesh multicast send`: loss, "
            "duplicates, and latency, which needs clocks that agree. Works without a mesh too."
        ),
        epilog="examples:\n  tunmesh multicast join 239.1.2.3 --device tun1 --seconds 10",
    )
    for action in (send, join):
        action.add_argument("group", metavar="GROUP", help="the group's address")
        action.add_argument("--port", type=int, default=4568, metavar="N", help="default 4568")
        action.add_argument("--device", default="", metavar="NAME", help="default: by the routes")
    send.add_argument("--count", type=int, default=0, metavar="N", help="end after so many")
    send.add_argument("--rate", type=float, default=10.0, metavar="N", help="a second, default 10")
    send.add_argument("--size", type=int, default=100, metavar="BYTES", help="default 100")
    send.add_argument("--ttl", type=int, default=1, metavar="N", help="TTL or hop limit, default 1")
    send.set_defaults(handler=_send)
    join.add_argument(
        "--source", action="append", default=[], metavar="S", help="from this source only; repeats"
    )
    join.add_argument("--count", type=int, default=0, metavar="N", help="end after so many")
    join.add_argument("--seconds", type=float, default=0.0, metavar="N", help="end after so long")
    join.add_argument("--json", action="store_true", help="as JSON, one object at the end")
    join.set_defaults(handler=_join)


@hookimpl
def tunmesh_checks(host: HostView) -> Iterable[Finding]:
    """Look at programs that use multicast, and do not by themselves on such a device."""
    from tunmesh_multicast_igmp.checks import check  # noqa: PLC0415 - only for the doctor

    return check(host)


def _igmp_policy(context: PolicyContext) -> RoutingPolicy:
    from tunmesh_multicast_igmp.policy import IgmpPolicy  # noqa: PLC0415 - not for `--help`

    return IgmpPolicy(context)


def _send(args: argparse.Namespace) -> int:
    from tunmesh_multicast_igmp.tools.commands import send  # noqa: PLC0415 - only when called

    return send(args)


def _join(args: argparse.Namespace) -> int:
    from tunmesh_multicast_igmp.tools.commands import join  # noqa: PLC0415 - only when called

    return join(args)
