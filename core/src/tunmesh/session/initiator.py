"""The initiating side of handshakes: requests on their way, and what came back to them."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tunmesh.errors import BadHandshake, BadPacket, LocalProtocolError
from tunmesh.identity.keys import node_id_of
from tunmesh.session import cookie, noise, wire
from tunmesh.session.events import Established, Event, NoCommonSuite, Remote, Retry
from tunmesh.session.keypair import Keypair
from tunmesh.session.local import Local, OwnKeys, Refused
from tunmesh.session.payload import (
    NO_CHALLENGE,
    InitPayload,
    RespPayload,
    decode_observed_untrusted,
    decode_resp_payload_untrusted,
    encode_init_payload,
)
from tunmesh.session.suites import choose

_MAX_INITIATIONS: Final = 1024
_MAX_PER_STATIC: Final = 16
_MAX_CONTACTS: Final = 4096


@dataclass(frozen=True, slots=True)
class Initiation:
    """One request for a session.

    Attributes:
        datagram: What to send, as often and to as many endpoints of the peer as one likes.
        local_index: Receiver index of its answers, and of the keypair that may follow.
        static: The peer's static key.
        created: When it was made.
        suite: The suite it asks for.
        keys: The keys it uses.
        handshake: The Noise state.
    """

    datagram: bytes = field(repr=False)
    local_index: int
    static: bytes
    created: float
    suite: int
    keys: OwnKeys
    handshake: noise.Initiator = field(repr=False)

    @property
    def mac1(self) -> bytes:
        """What cookies for it are bound to."""
        return self.datagram[-2 * wire.MAC_SIZE : -wire.MAC_SIZE]


@dataclass(slots=True)
class _Contact:
    """What a peer asked for in its last answers.

    Attributes:
        suites: Its offer, None if it is not known.
        cookies: By kind: the value, and until when it is of use.
        retried: By kind: when it last led to an immediate retry.
        attempts: Requests made for it in a row, none answered.
        has_secret: A secret that it has, as it has just shown; for the next request.
    """

    suites: int | None = None
    cookies: dict[int, tuple[bytes, float]] = field(default_factory=dict)
    retried: dict[int, float] = field(default_factory=dict)
    attempts: int = 0
    has_secret: bytes | None = None

    def cookie(self, kind: int, now: float) -> bytes | None:
        value, until = self.cookies.get(kind, (b"", now))
        return value if now < until else None


class Initiations:
    """Requests that may still be answered.

    Args:
        local: This node.
    """

    __slots__ = ("_asked", "_contacts", "_local", "_pending")

    def __init__(self, local: Local) -> None:
        self._local = local
        self._pending: dict[int, Initiation] = {}  # in order of age
        self._asked: set[int] = set()  # requests that were already answered by a COOKIE
        self._contacts: OrderedDict[bytes, _Contact] = OrderedDict()

    def __contains__(self, index: int) -> bool:
        return index in self._pending

    def learn(self, static: bytes, suites: int, psk_id: bytes) -> None:
        """Note what a peer offers and which secret it has, so that the next request fits."""
        contact = self._contact(static)
        contact.suites = suites
        contact.has_secret = psk_id

    def secrets_changed(self) -> None:
        """Give up the requests under secrets that are no longer accepted."""
        for initiation in list(self._pending.values()):
            if self._local.own_keys(initiation.keys.mesh.psk_id) is None:
                self._forget(initiation.local_index)

    def make(self, static: bytes, now: float) -> Initiation:
        """A new request.

        Raises:
            LocalProtocolError: The static key is this node's own.
            BadHandshake: It is of low order.
        """
        local = self._local
        if static == local.key.x25519_public:
            raise LocalProtocolError("a handshake with this node itself")
        self.expire(now)
        self._make_room(static)
        contact = self._contact(static)
        theirs = local.suites if contact.suites is None else contact.suites
        # Without a common suite any will do: the answer tells whether that is still so.
        suite = choose(local.suites, theirs) or local.default_suite
        keys = self._keys(contact)
        mesh = keys.mesh
        index = local.new_index()
        header = wire.encode_init_header(suite, index, mesh.psk_id)
        handshake = noise.Initiator(
            suite, local.prologue(mesh, header), local.key.x25519_private, static, mesh.psk
        )
        payload = InitPayload(
            timestamp=local.timestamp(),
            boot_id=local.boot_id,
            node_id=bytes.fromhex(local.key.node_id),
            challenge=contact.cookie(cookie.CHALLENGE, now) or NO_CHALLENGE,
            highest_version=wire.VERSION,
            suites=local.suites,
            capabilities=local.capabilities,
            max_datagram=local.max_datagram,
        )
        message = header + handshake.write_request(encode_init_payload(payload))
        message += cookie.mac(cookie.mac1_key(mesh.gate, static), message)
        load = contact.cookie(cookie.LOAD, now)
        message += wire.NO_MAC if load is None else cookie.mac(load, message)
        initiation = Initiation(message, index, static, now, suite, keys, handshake)
        self._pending[index] = initiation
        return initiation

    def receive_response(self, data: bytes, endpoint: str, now: float) -> list[Event]:
        """Take a RESP: the handshake is complete."""
        local = self._local
        response = wire.decode_resp_untrusted(data)
        initiation = self._find(response.receiver, now)
        mac1 = cookie.mac(initiation.keys.mac1, data[: -2 * wire.MAC_SIZE])
        if (
            not hmac.compare_digest(mac1, response.mac1)
            or response.mac2 != wire.NO_MAC
            or response.suite != initiation.suite
            or local.forbidden(initiation.static)
        ):
            raise BadHandshake("a RESP does not authenticate")
        plaintext, (sending, receiving) = initiation.handshake.read_response(response.noise)
        payload = decode_resp_payload_untrusted(plaintext)
        remote = self._check(payload, response, initiation, endpoint)
        self._settle(initiation.static, payload.suites)
        keypair = Keypair(
            local_index=initiation.local_index,
            remote_index=response.sender,
            suite=initiation.suite,
            initiator=True,
            created=initiation.created,
            boot_id=payload.boot_id,
            send_secret=sending,
            recv_secret=receiving,
            psk_id=initiation.keys.mesh.psk_id,
        )
        local.counters["ok"] += 1
        return [Established(keypair, remote)]

    def receive_cookie(self, data: bytes, now: float) -> list[Event]:
        """Take a COOKIE: the responder asks for another request. Each request is asked once."""
        message = wire.decode_cookie_untrusted(data)
        initiation = self._find(message.receiver, now)
        if message.kind not in cookie.KINDS:
            raise BadPacket(f"a COOKIE of the unknown kind {message.kind}")
        key = cookie.cookie_key(initiation.keys.mesh.gate, initiation.static)
        value = cookie.open_untrusted(key, message, initiation.mac1)
        if initiation.local_index in self._asked:
            raise Refused("replay")
        self._asked.add(initiation.local_index)
        contact = self._contact(initiation.static)
        contact.has_secret = initiation.keys.mesh.psk_id
        if message.kind == cookie.SUITES:
            contact.suites = int.from_bytes(value[:2], "big")
            if choose(self._local.suites, contact.suites) is None:
                self._local.counters["failed"] += 1
                return [NoCommonSuite(node_id_of(initiation.static))]
        else:
            # Not for longer, though it may hold: if the responder restarts or the path changes,
            # a stale one costs a round trip.
            until = now + self._local.timing.pending
            contact.cookies[message.kind] = (value, until)
        # Bounded, as a defective peer might ask for ever; the usual repetition goes on anyway.
        retried = contact.retried.get(message.kind)
        if retried is not None and now - retried < self._local.timing.retry_interval:
            return []
        contact.retried[message.kind] = now
        return [Retry(initiation.static)]

    def expire(self, now: float) -> None:
        """Forget what is too old to be answered."""
        while self._pending:
            initiation = next(iter(self._pending.values()))
            if now - initiation.created < self._local.timing.pending:
                return
            self._forget(initiation.local_index)
            self._local.counters["unanswered"] += 1

    def _find(self, index: int, now: float) -> Initiation:
        initiation = self._pending.get(index)
        if initiation is None or now - initiation.created >= self._local.timing.pending:
            raise Refused("replay")  # repeated, or far too late
        return initiation

    def _check(
        self, payload: RespPayload, response: wire.Resp, initiation: Initiation, endpoint: str
    ) -> Remote:
        """Compare what the responder says with what the handshake was about."""
        local = self._local
        node_id = node_id_of(initiation.static)
        if (payload.sender, payload.receiver) != (response.sender, response.receiver):
            raise BadHandshake("a RESP whose header was changed")
        if payload.node_id.hex() != node_id or payload.highest_version < wire.VERSION:
            raise BadHandshake("a RESP of another node or version")
        if choose(local.suites, payload.suites) != initiation.suite:
            raise BadHandshake("a RESP with a suite that the rule does not give")
        return Remote(
            static=initiation.static,
            node_id=node_id,
            boot_id=payload.boot_id,
            suites=payload.suites,
            capabilities=payload.capabilities,
            max_datagram=payload.max_datagram,
            observed=decode_observed_untrusted(payload.observed, urlsplit(endpoint).scheme),
        )

    def _settle(self, static: bytes, suites: int) -> None:
        """Give up the other requests to a peer that answered one.

        The responder tells by the first unit which one that is, and forgets the others too.
        """
        contact = self._contact(static)
        contact.suites = suites
        contact.has_secret = None  # the next session begins with the first secret again
        contact.cookies.pop(cookie.CHALLENGE, None)
        for initiation in [one for one in self._pending.values() if one.static == static]:
            self._forget(initiation.local_index)

    def _keys(self, contact: _Contact) -> OwnKeys:
        """The keys for the next request to a peer."""
        shown, contact.has_secret = contact.has_secret, None
        keys = self._local.own_keys(shown) if shown is not None else None
        if keys is None:
            keys = self._local.keys_of_attempt(contact.attempts)
        contact.attempts += 1
        return keys

    def _make_room(self, static: bytes) -> None:
        """Have a place for one more request to a peer."""
        own = [one.local_index for one in self._pending.values() if one.static == static]
        if not own:
            self._contact(static).attempts = 0
        if len(own) >= _MAX_PER_STATIC:
            self._forget(own[0])
        elif len(self._pending) >= _MAX_INITIATIONS:
            self._forget(next(iter(self._pending)))

    def _forget(self, index: int) -> None:
        del self._pending[index]
        self._asked.discard(index)

    def _contact(self, static: bytes) -> _Contact:
        contact = self._contacts.get(static)
        if contact is None:
            if len(self._contacts) >= _MAX_CONTACTS:
                self._contacts.popitem(last=False)
            contact = self._contacts[static] = _Contact()
        self._contacts.move_to_end(static)
        return contact
