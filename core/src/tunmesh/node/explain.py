"""Answers ``tunmesh explain``: what this node would do with a packet, and what others say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from tunmesh import statusdoc
from tunmesh.admin.explanation import Explanation, HopFound, PlaceFound, RouteFound, Verdict
from tunmesh.admin.status import RefusedStatus
from tunmesh.errors import AdminError
from tunmesh.mesh.explaining import Answer, Judgement, Side, Spot
from tunmesh.session.units import ITEM_PREFIX, TAG_SIZE

if TYPE_CHECKING:
    from tunmesh.interfaces import Tun
    from tunmesh.mesh import Mesh

#: Seconds for the other nodes to answer, and how many of them are asked.
PATIENCE = 2.0
_MOST_ASKED = 16
_VNET = 10


async def explain(
    mesh: Mesh, tun: Tun, source: str, destination: str, now: float
) -> dict[str, Any]:
    """The document, made of builtins (`tunmesh.admin.explanation`).

    Args:
        mesh: The mesh.
        tun: The device.
        source: Address of the packet's sender; empty or ``-`` for this node's own.
        destination: Address of the receiver.
        now: The time.

    Raises:
        AdminError: The question makes no sense.
    """
    target = _address(destination)
    origin = _address(source) if source not in ("", "-") else _own(mesh, target)
    if origin.version != target.version:
        raise AdminError(f"{origin} and {target} are of different versions of IP")
    question = Explainer(mesh, tun, origin, target)
    return await question.answer(now)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        raise AdminError(f"{text!r} is no IP address") from None


def _own(mesh: Mesh, target: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that this host would use for a destination."""
    own = [known.ip for known in mesh.forwarding.addresses if known.version == target.version]
    if not own:
        raise AdminError(f"this node has no IPv{target.version} address: name the source")
    alike = (address for address in own if address.is_link_local == target.is_link_local)
    return next(alike, own[0])


class Explainer:
    """One question.

    Args:
        mesh: The mesh.
        tun: The device.
        source: Of the packet.
        destination: Of the packet.
    """

    def __init__(
        self,
        mesh: Mesh,
        tun: Tun,
        source: IPv4Address | IPv6Address,
        destination: IPv4Address | IPv6Address,
    ) -> None:
        self._mesh = mesh
        self._tun = tun
        self._source, self._destination = source, destination
        self._packed = source.packed, destination.packed
        self._names = statusdoc.node_names(mesh)
        self._own_name = self._names[mesh.key.node_id]

    async def answer(self, now: float) -> dict[str, Any]:
        """The document."""
        judge = self._mesh.explaining
        here = judge.inside(*self._packed)
        asked: Side = "outside"
        peers = here.peers or here.destination.peers
        if here.reason == "unknown_source" and here.source.peers:  # it comes from the mesh
            here, asked = judge.outside(here.source.peers[0], *self._packed), "inside"
            peers = here.source.peers
        answers = await self._ask(peers, asked, now)
        counter, counted = self._counter(here)
        found = Explanation(
            source=str(self._source),
            destination=str(self._destination),
            mtu=self._tun.mtu,
            here=self._verdict(self._own_name, here),
            counter=counter,
            count=counted,
            routes=tuple(self._routes(here.destination)),
            refused=tuple(self._refused()),
            hops=tuple(self._hop(peer, answers.get(peer), now) for peer in peers),
        )
        document: dict[str, Any] = msgspec.to_builtins(found)
        return document

    async def _ask(self, peers: Iterable[str], side: Side, now: float) -> Mapping[str, Answer]:
        """What other nodes say; those that do not answer in time are missing."""
        judge = self._mesh.explaining
        answers: dict[str, Answer] = {}
        complete = anyio.Event()
        reachable = [peer for peer in peers if (known := self._mesh.peers.get(peer)) and known.up]
        reachable = reachable[:_MOST_ASKED]

        def answered(peer: str, answer: Answer) -> None:
            answers[peer] = answer
            if len(answers) == len(reachable):
                complete.set()

        numbers = [
            judge.ask(peer, side, *self._packed, now, partial(answered, peer)) for peer in reachable
        ]
        if numbers:
            with anyio.move_on_after(PATIENCE):
                await complete.wait()
            for number in numbers:
                judge.forget(number)
        return answers

    def _hop(self, node_id: str, answer: Answer | None, now: float) -> HopFound:
        peer = self._mesh.peers.get(node_id)
        port = peer.port if peer is not None else None
        ready = port is not None and port.tx_keypair is not None and port.handle is not None
        unit = ITEM_PREFIX + _VNET + self._tun.mtu + TAG_SIZE
        status = statusdoc.peer_status(self._mesh, node_id, self._names, now)
        if answer is None:
            verdict = reply = refused = None
        else:
            verdict = self._verdict(status.name, answer.judgement)
            reply = None if answer.reply is None else self._verdict(status.name, answer.reply)
            back = self._packed[::-1]
            refused = self._mesh.explaining.outside(node_id, *back).reason if reply else None
        return HopFound(
            peer=status,
            ready=ready,
            slices=-(-unit // port.slice_size) if port is not None and port.slice_size else None,
            answer=verdict,
            reply=reply,
            reply_refused=refused or None,
        )

    def _verdict(self, node: str, judgement: Judgement) -> Verdict:
        passes = "sent" if judgement.side == "inside" else "delivered"
        return Verdict(
            node=node,
            side=judgement.side,
            verdict="dropped" if judgement.reason else passes,
            reason=judgement.reason or None,
            source=self._place(judgement.source),
            destination=self._place(judgement.destination),
            peers=self._named(judgement.peers),
            forwarding=judgement.forwarding,
            judged=judgement.judged,
        )

    def _place(self, spot: Spot) -> PlaceFound:
        return PlaceFound(spot.kind, spot.prefix or None, self._named(spot.peers))

    def _named(self, peers: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._names.get(peer, peer) for peer in peers)

    def _counter(self, here: Judgement) -> tuple[str, int]:
        """By what the packet is counted here, and how many were so far."""
        if here.reason:
            return f"drops.{here.reason}", self._mesh.drops[here.reason]
        if here.destination.kind == "broadcast":
            return "broadcasts", self._mesh.inside.broadcasts.packets
        if here.destination.kind == "group":
            traffic = self._mesh.inside.groups.get(self._packed[1])
            return f"groups[{self._destination}].packets", traffic.packets if traffic else 0
        inside = here.side == "inside"
        node_id = here.peers[0] if inside else here.source.peers[0]
        peer = self._mesh.peers.get(node_id)
        name = f"peers[{self._names.get(node_id, node_id)}].{'tx' if inside else 'rx'}_packets"
        if peer is None:
            return name, 0
        return name, peer.port.tx_packets if inside else peer.port.rx_packets

    def _routes(self, destination: Spot) -> Iterable[RouteFound]:
        """The routes with the prefix that decides, those in force first."""
        forwarding = self._mesh.forwarding
        for backup, routes in ((False, forwarding.routes()), (True, forwarding.backups())):
            for route in routes:
                if str(route.prefix) == destination.prefix:
                    yield RouteFound(
                        prefix=destination.prefix,
                        kind=route.kind,
                        peers=self._named(route.peers),
                        metric=route.metric,
                        source=route.source,
                        backup=backup,
                    )

    def _refused(self) -> Iterable[RefusedStatus]:
        for node_id, prefixes in self._mesh.forwarding.refused.items():
            for prefix, reason in prefixes:
                if self._source in prefix or self._destination in prefix:
                    yield RefusedStatus(str(prefix), self._names.get(node_id, node_id), reason)
