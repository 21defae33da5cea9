"""``tunmesh explain``: what would become of a packet, step by step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from tunmesh.admin.client import ask
from tunmesh.admin.explanation import Explanation, HopFound, PlaceFound, Verdict
from tunmesh.cli.status import columns, find_socket, safe_line, seconds
from tunmesh.errors import AdminError

if TYPE_CHECKING:
    import argparse

#: What to look at, by the reason of a drop on the node that is named in the hint.
_HINTS = {
    "no_route": "is the node that should have it up, and does it announce it? See `tunmesh peers`",
    "outside_network": "is it behind a node? Then that needs node.subnets, "
    "and {node} must accept it: routing.accept_subnets",
    "unknown_source": "a packet of this host must come from an address of {node}, or from one of "
    "its node.subnets",
    "spoofed_source": "{node} does not know the source as the sender's: the sender needs it in "
    "node.subnets, and {node} must accept it: routing.accept_subnets",
    "misrouted": "{node} does not have the destination: compare `tunmesh routes` on both nodes",
    "no_group": "nobody is a member of the group. See `tunmesh groups`",
    "broadcast_disabled": "routing.broadcast is off on {node}",
    "loopback": "the host should not send this into the device: look at `ip route get`",
}


def explain_command(args: argparse.Namespace) -> int:
    """Tell what would become of a packet."""
    document = ask(find_socket(args), "explain", source=args.source, destination=args.destination)
    if args.json:
        text = msgspec.json.format(msgspec.json.encode(document), indent=1).decode()
    else:
        try:
            found = msgspec.convert(document, Explanation)
        except msgspec.ValidationError as exc:
            raise AdminError(f"the node's answer is of another version: {exc}") from exc
        text = "\n".join(lines(found))
    sys.stdout.write(text + "\n")
    return 0


def lines(found: Explanation) -> list[str]:
    """The explanation for a person."""
    here = found.here
    steps = [
        ["source", f"{found.source}: {place(found.here.source, here.node)}"],
        ["destination", f"{found.destination}: {place(here.destination, here.node)}"],
        *(["refused", f"{r.prefix} of {r.peer}: {r.reason}"] for r in found.refused),
        *_routes(found),
        ["verdict", f"{_verdict(here)}, counted in {found.counter} (now {found.count})"],
    ]
    if here.reason and found.hops:
        steps.append(["", "if it were not:"])
    for hop in found.hops:
        steps += _hop(hop, here)
    head = f"{found.source} > {found.destination}, as {here.node} sees it"
    return [safe_line(head), *columns(steps), "", *_conclusion(found)]


def place(found: PlaceFound, node: str) -> str:
    """What an address is."""
    owners = ", ".join(found.peers)
    return {
        "own_address": f"an address of {node} itself",
        "own_subnet": f"in {found.prefix}, a subnet behind {node} itself",
        "address": f"an address of {owners}",
        "subnet": f"in {found.prefix}, a subnet behind {owners}",
        "unclaimed": f"in {found.prefix} of the mesh, but no node has it",
        "group": f"a group, taken by {owners or 'no other node'}",
        "broadcast": f"a broadcast address, for {owners or 'no other node'}",
        "outside": "outside the mesh and all subnets",
    }.get(found.kind, found.kind)


def _routes(found: Explanation) -> Iterator[list[str]]:
    if not found.routes and found.here.side == "inside" and found.here.destination.peers:
        yield ["route", "none"]
    for route in found.routes:
        way = f"{route.prefix} to {', '.join(route.peers) or 'nobody'}, {route.kind}"
        rank = f"metric {route.metric}, from {route.source}"
        yield ["backup" if route.backup else "route", f"{way}, {rank}"]


def _verdict(verdict: Verdict) -> str:
    if verdict.reason:
        return f"{verdict.node} drops it: {verdict.reason}"
    if verdict.verdict == "sent":
        text = f"{verdict.node} sends it to {', '.join(verdict.peers)}"
    else:
        text = f"{verdict.node} gives it to its host{_onward(verdict)}"
    return text + (", unless a policy denies its protocol or ports" if verdict.judged else "")


def _onward(verdict: Verdict) -> str:
    if verdict.forwarding is None:
        return ""
    if verdict.forwarding:
        return f", which forwards to {verdict.destination.prefix}"
    return f", which does NOT forward to {verdict.destination.prefix}"


def _hop(hop: HopFound, here: Verdict) -> Iterator[list[str]]:
    peer = hop.peer
    yield ["peer", f"{peer.name}: {peer.state}, {_way(peer.via)}"]
    link = next((link for link in peer.links if link.active), None)
    if link is not None:
        rtt = "unknown" if link.rtt_ms is None else f"{link.rtt_ms:.2f} ms"
        quality = f"RTT {rtt}, loss {link.loss:.1%}, datagrams of {link.mtu} bytes, {link.cipher}"
        since = f"since {seconds(link.since_s)}"
        yield ["path", f"{link.endpoint} ({link.transport}), {quality}, {since}"]
        yield ["size", f"a packet of full size takes {_counted(hop.slices or 0, 'datagram')}"]
    if not hop.ready and here.side == "inside":
        yield ["session", "none yet: packets wait for 2 s at most, then count as peer_gone"]
    if hop.answer is None:
        yield ["answer", f"no answer from {peer.name}"]
        return
    yield ["answer", f"{_verdict(hop.answer)}"]
    if hop.answer.reason:
        yield ["", f"{peer.name} knows the source as: {place(hop.answer.source, peer.name)}"]
    if hop.reply is not None:
        back = f"; {here.node} drops that: {hop.reply_refused}" if hop.reply_refused else ""
        yield ["reply", _verdict(hop.reply) + back]


def _way(via: str) -> str:
    return via if via == "direct" else f"through {via}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _conclusion(found: Explanation) -> Iterable[str]:
    """The outcome in one line, and what to look at."""
    drops = [found.here] if found.here.reason else []
    if not drops:
        drops = [hop.answer for hop in found.hops if hop.answer is not None and hop.answer.reason]
    unanswered = [hop.peer.name for hop in found.hops if hop.answer is None]
    stuck = [hop.answer for hop in found.hops if hop.answer and hop.answer.forwarding is False]
    for drop in drops:
        hint = _HINTS.get(drop.reason or "", "").format(node=drop.node)
        yield safe_line(f"DROPPED by {drop.node}: {drop.reason}{hint and ': '}{hint}")
    if drops:
        return
    for answer in stuck:
        version = 6 if ":" in found.destination else 4
        setting = "net.ipv6.conf.all.forwarding" if version == 6 else "net.ipv4.ip_forward"
        yield safe_line(f"STUCK at {answer.node}: run `sysctl -w {setting}=1` there")
    silent = [(hop, hop.reply) for hop in found.hops if hop.reply is not None]
    lost = [(r.node, r.reason) for _, r in silent if r.reason]
    lost += [(found.here.node, hop.reply_refused) for hop, _ in silent if hop.reply_refused]
    if unanswered:
        yield safe_line(f"SENT, but no answer from {', '.join(unanswered)}")
    elif not stuck:
        yield "DELIVERED"
    for node, reason in lost:
        yield safe_line(f"a reply would be DROPPED by {node}: {reason}")
