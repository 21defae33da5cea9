"""What would become of a packet, on this node and, asked for through the mesh, on another one.

Nothing is decided here: the forwarding table is asked as the data plane asks it. A question and its
answer travel in the reliable channel of a session::

    0xC1 | MessagePack of a `Question` or an `Answer`

No MessagePack value begins with 0xC1, which tells them from the messages of the membership. Nodes
that do not know them count them as `bad_packet`; answers may have more parts one day. Contains no
I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tunmesh.errors import BadPacket
from tunmesh.session.limits import TokenBucket

if TYPE_CHECKING:
    from tunmesh.dataplane.verdicts import Verdicts
    from tunmesh.forwarding import Forwarding
    from tunmesh.routing.fib import Fib

MARK = 0xC1
#: Questions answered in a second, and at once; beyond that there is no answer.
_RATE, _BURST = 20.0, 40.0
#: Questions that wait for their answers; the oldest is given up for a new one.
_MOST_PENDING = 256

#: Where a packet comes from: this host, by the device, or the mesh.
Side: TypeAlias = Literal["inside", "outside"]

_Text = Annotated[str, Meta(max_length=64)]
_Texts = Annotated[tuple[_Text, ...], Meta(max_length=1024)]
_Address = Annotated[bytes, Meta(min_length=4, max_length=16)]


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """What an address is to a node: `tunmesh.routing.Place` in plain words.

    Attributes:
        kind: As there.
        prefix: That decides; empty if there is none.
        peers: Ids of the nodes that it belongs to.
    """

    kind: _Text
    prefix: _Text = ""
    peers: _Texts = ()


class Judgement(msgspec.Struct, frozen=True, array_like=True):
    """What one node would do with a packet.

    Attributes:
        side: Where it comes from.
        reason: For which it is dropped; empty if it is not.
        source: What its source is.
        destination: What its destination is.
        peers: Ids of the nodes that it is sent to; none if it comes from the mesh.
        forwarding: Whether the host would forward it to a subnet; None if it need not.
        judged: Whether policies decide about it too, by protocol and ports, which is not asked.
    """

    side: Side
    reason: _Text
    source: Spot
    destination: Spot
    peers: _Texts = ()
    forwarding: bool | None = None
    judged: bool = False


class Question(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """What would you do with such a packet?

    Attributes:
        number: Comes back with the answer.
        side: ``outside`` if the one who asks would send it, ``inside`` if the other's host did.
        source: 4 or 16 bytes.
        destination: As many.
    """

    number: Annotated[int, Meta(ge=0, lt=2**32)]
    side: Side
    source: _Address
    destination: _Address


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """What I would do with it.

    Attributes:
        number: Of the question.
        judgement: Of the packet.
        reply: Of one from its destination back to its source; None if there can be none.
    """

    number: Annotated[int, Meta(ge=0, lt=2**32)]
    judgement: Judgement
    reply: Judgement | None = None


Answered: TypeAlias = Callable[[Answer], None]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Question | Answer] = msgspec.msgpack.Decoder(Question | Answer)


def encode(message: Question | Answer) -> bytes:
    """The bytes of a message."""
    return bytes((MARK,)) + _ENCODER.encode(message)


def decode_untrusted(data: bytes) -> Question | Answer:
    """A message, which begins with `MARK`.

    Raises:
        BadPacket: It is malformed.
    """
    try:
        message = _DECODER.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadPacket(f"question: {error}") from error
    if isinstance(message, Question) and (len(message.source), len(message.destination)) not in (
        (4, 4),
        (16, 16),
    ):
        raise BadPacket("question about addresses that are none")
    return message


class Explaining:
    """Judges packets, asks other nodes, and answers them.

    Args:
        forwarding: The routes.
        forwards: Whether this host forwards packets of a version of IP.
        send: Sends a message to a node, reliably.
        judges: The policies that decide about flows; false if there is none.
        now: The time.
    """

    def __init__(
        self,
        forwarding: Forwarding,
        forwards: Callable[[int], bool],
        send: Callable[[str, bytes, float], None],
        judges: Verdicts,
        now: float,
    ) -> None:
        self._forwarding = forwarding
        self._forwards = forwards
        self._send = send
        self._judges = judges
        self._numbers = count()
        self._pending: dict[int, tuple[str, Answered]] = {}
        self._bucket = TokenBucket(_RATE, _BURST, now)

    def inside(self, source: bytes, destination: bytes) -> Judgement:
        """What becomes of a packet of this host."""
        fib = self._forwarding.fib()
        found = fib.inside(source, destination)
        reason, peers = (found, ()) if isinstance(found, str) else ("", found)
        return self._judgement(fib, "inside", reason, source, destination, peers)

    def outside(self, peer: str, source: bytes, destination: bytes) -> Judgement:
        """What becomes of a packet that a peer sends."""
        fib = self._forwarding.fib()
        reason = fib.outside(peer, source, destination) or ""
        version = 4 if len(destination) == 4 else 6
        judgement = self._judgement(fib, "outside", reason, source, destination)
        if judgement.destination.kind != "own_subnet":
            return judgement
        return msgspec.structs.replace(judgement, forwarding=self._forwards(version))

    def ask(
        self, peer: str, side: Side, source: bytes, destination: bytes, now: float, then: Answered
    ) -> int:
        """Ask another node; `then` is called with its answer, if one comes.

        Returns:
            A number for `forget`.
        """
        number = next(self._numbers) & 0xFFFFFFFF
        if len(self._pending) >= _MOST_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[number] = peer, then
        self._send(peer, encode(Question(number, side, source, destination)), now)
        return number

    def forget(self, number: int) -> None:
        """Wait no longer for an answer."""
        self._pending.pop(number, None)

    def receive(self, peer: str, data: bytes, now: float) -> None:
        """Take a message of a peer.

        Raises:
            BadPacket: It is malformed.
        """
        message = decode_untrusted(data)
        if isinstance(message, Question):
            if self._bucket.take(now):
                self._send(peer, encode(self._answer(peer, message)), now)
            return
        asked, then = self._pending.get(message.number, ("", None))
        if then is not None and asked == peer:
            del self._pending[message.number]
            then(message)

    def _answer(self, peer: str, question: Question) -> Answer:
        source, destination = question.source, question.destination
        if question.side == "inside":
            return Answer(question.number, self.inside(source, destination))
        judgement = self.outside(peer, source, destination)
        local = judgement.destination.kind in ("own_address", "own_subnet")
        reply = self.inside(destination, source) if local else None
        return Answer(question.number, judgement, reply)

    def _judgement(
        self,
        fib: Fib,
        side: Side,
        reason: str,
        source: bytes,
        destination: bytes,
        peers: tuple[str, ...] = (),
    ) -> Judgement:
        first, last = _spot(fib, source), _spot(fib, destination, source)
        judged = not reason and bool(self._judges)
        return Judgement(side, reason, first, last, peers, judged=judged)


def _spot(fib: Fib, address: bytes, source: bytes = b"") -> Spot:
    place = fib.place(address, source)
    return Spot(place.kind, "" if place.prefix is None else str(place.prefix), place.peers)
