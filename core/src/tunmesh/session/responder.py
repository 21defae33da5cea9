"""The responding side of handshakes.

Each check is cheaper than the next and needs what the one before proved: layout, membership
(mac1), address (mac2, when asked for), a budget for costly computation, identity, freshness.
Until the last one nothing is stored but counts in tables of fixed size.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tunmesh.errors import BadHandshake
from tunmesh.identity.keys import node_id_of
from tunmesh.session import cookie, noise, wire
from tunmesh.session.events import Established, Event, NoCommonSuite, Remote, Send
from tunmesh.session.freshness import Freshness
from tunmesh.session.keypair import Keypair
from tunmesh.session.limits import SourceLimiter, TokenBucket
from tunmesh.session.local import Local, OwnKeys, Refused
from tunmesh.session.payload import (
    InitPayload,
    RespPayload,
    decode_init_payload_untrusted,
    encode_observed,
    encode_resp_payload,
)
from tunmesh.session.suites import choose

MAX_PENDING: Final = 1024
# Handshakes computed: 300 a second take about a tenth of a core.
_DH_RATE, _DH_BURST = 300.0, 100.0
# Cookies sent, which cost about 10 us each.
_COOKIE_RATE, _COOKIE_BURST = 1000.0, 1000.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that was answered. `request` lacks mac2, which differs between repetitions."""

    static: bytes
    request: bytes
    response: bytes
    keypair: Keypair
    answered: float


class Responses:
    """Answers to the requests of other nodes.

    Args:
        local: This node.
        now: The time.
        force_under_load: Always ask for cookies: for tests and for operators under attack.
    """

    __slots__ = (
        "_cookies",
        "_dh",
        "_forced",
        "_freshness",
        "_jar",
        "_loaded_until",
        "_local",
        "_pending",
        "_proven",
        "_requests",
        "_unproven",
    )

    def __init__(self, local: Local, now: float, *, force_under_load: bool) -> None:
        self._local = local
        self._forced = force_under_load
        self._jar = cookie.CookieJar(local.timing.cookie)
        self._proven = SourceLimiter()
        self._unproven = SourceLimiter()
        self._cookies = TokenBucket(_COOKIE_RATE, _COOKIE_BURST, now)
        self._dh = TokenBucket(_DH_RATE, _DH_BURST, now)
        self._loaded_until = float("-inf")
        # By static key and by request; both hold the same.
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()
        self._requests: dict[bytes, _Pending] = {}
        self._freshness = Freshness(local.wall_ns)

    def __contains__(self, index: int) -> bool:
        return any(one.keypair.local_index == index for one in self._pending.values())

    @property
    def half_open(self) -> int:
        """Answered requests whose initiators have not confirmed yet."""
        return sum(not pending.keypair.confirmed for pending in self._pending.values())

    def under_load(self, now: float) -> bool:
        """Whether initiators have to prove their address first."""
        timing = self._local.timing
        busy = self._dh.available(now) < _DH_BURST / 2
        if not busy and len(self._pending) >= timing.under_load_half_open:
            busy = self.half_open >= timing.under_load_half_open
        if busy:
            self._loaded_until = now + timing.under_load_hold
        return self._forced or now < self._loaded_until

    def receive_request(
        self, data: bytes, source: bytes, endpoint: str, now: float, *, known: bool
    ) -> list[Event]:
        """Take an INIT."""
        request = wire.decode_init_untrusted(data)
        own = self._local.own_keys(request.psk_id)
        if own is None or not hmac.compare_digest(
            cookie.mac(own.mac1, data[: -2 * wire.MAC_SIZE]), request.mac1
        ):
            raise BadHandshake("an INIT of another mesh or for another node")
        self.expire(now)
        if not self._admits(request, data, source, endpoint, now, known=known):
            if not self._cookies.take(now):
                raise Refused("rate_limited")
            self._local.counters["under_load"] += 1
            return [self._ask(cookie.LOAD, self._jar.load(endpoint, now), request, own)]
        message = data[: -wire.MAC_SIZE]
        repeated = self._requests.get(message)
        if repeated is not None:
            self._local.counters["repeated"] += 1
            return [Send(repeated.response)]
        if not self._dh.take(now):
            raise Refused("rate_limited")
        return self._open(message, request, own, endpoint, now, known=known)

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._pending:
            pending = next(iter(self._pending.values()))
            if now - pending.answered < self._local.timing.pending:
                break
            self._forget(pending)
        self._proven.expire(now)
        self._unproven.expire(now)

    def _admits(
        self,
        request: wire.Init,
        data: bytes,
        source: bytes,
        endpoint: str,
        now: float,
        *,
        known: bool,
    ) -> bool:
        """Whether to go on with a request; if not, a cookie is to be asked for.

        Whoever sends from a forged address uses up the tokens of the one he forges. So running
        out of them means no refusal but a cookie, and who has that is counted apart.
        """
        if request.mac2 == wire.NO_MAC:
            return not self.under_load(now) and self._unproven.take(source, now, known=known)
        if not self._jar.check_mac2(data, endpoint, now):
            return False
        if not self._proven.take(source, now, known=known):
            raise Refused("rate_limited")
        return True

    def _open(
        self,
        message: bytes,
        request: wire.Init,
        own: OwnKeys,
        endpoint: str,
        now: float,
        *,
        known: bool,
    ) -> list[Event]:
        """Do the costly part: who is it, and is it fresh?"""
        local = self._local
        key = local.key
        handshake = noise.Responder(
            request.suite,
            local.prologue(own.mesh, message),
            key.x25519_private,
            key.x25519_public,
            own.mesh.psk,
        )
        static = handshake.read_static(request.noise)
        if static == key.x25519_public or local.forbidden(static):
            raise BadHandshake("an INIT of a static key that is refused")
        payload = decode_init_payload_untrusted(handshake.read_payload())
        if payload.node_id.hex() != node_id_of(static) or payload.highest_version < wire.VERSION:
            raise BadHandshake("an INIT of another node or version")
        suite = choose(local.suites, payload.suites)
        if suite != request.suite:
            local.counters["failed"] += 1
            value = local.suites.to_bytes(2, "big").ljust(cookie.VALUE_SIZE, b"\0")
            answer: list[Event] = [self._ask(cookie.SUITES, value, request, own)]
            return answer if suite else [NoCommonSuite(payload.node_id.hex()), *answer]
        if not self._is_fresh(payload, static, endpoint, now):
            local.counters["challenged"] += 1
            reference = self._freshness.reference(static)
            value = self._jar.challenge(static, endpoint, reference, now)
            return [self._ask(cookie.CHALLENGE, value, request, own)]
        self._make_room(static, known=known)
        return self._answer(handshake, message, request, payload, own, endpoint, now)

    def _answer(
        self,
        handshake: noise.Responder,
        message: bytes,
        request: wire.Init,
        payload: InitPayload,
        own: OwnKeys,
        endpoint: str,
        now: float,
    ) -> list[Event]:
        """Accept the request."""
        local = self._local
        static = handshake.remote
        index = local.new_index()
        own_payload = RespPayload(
            sender=index,
            receiver=request.sender,
            boot_id=local.boot_id,
            node_id=bytes.fromhex(local.key.node_id),
            highest_version=wire.VERSION,
            suites=local.suites,
            capabilities=local.capabilities,
            max_datagram=local.max_datagram,
            observed=encode_observed(endpoint),
        )
        body, (sending, receiving) = handshake.write_response(encode_resp_payload(own_payload))
        response = wire.encode_resp_header(request.suite, index, request.sender) + body
        response += cookie.mac(cookie.mac1_key(own.mesh.gate, static), response) + wire.NO_MAC
        keypair = Keypair(
            local_index=index,
            remote_index=request.sender,
            suite=request.suite,
            initiator=False,
            created=now,
            boot_id=payload.boot_id,
            send_secret=sending,
            recv_secret=receiving,
            psk_id=own.mesh.psk_id,
        )
        pending = _Pending(static, message, response, keypair, now)
        self._pending[static] = self._requests[message] = pending
        self._freshness.accept(static, payload.timestamp, now)
        local.counters["ok"] += 1
        remote = Remote(
            static=static,
            node_id=payload.node_id.hex(),
            boot_id=payload.boot_id,
            suites=payload.suites,
            capabilities=payload.capabilities,
            max_datagram=payload.max_datagram,
        )
        return [Established(keypair, remote), Send(response)]

    def _ask(self, kind: int, value: bytes, request: wire.Init, own: OwnKeys) -> Send:
        return Send(cookie.seal(own.cookie, kind, request.sender, value, request.mac1))

    def _is_fresh(self, payload: InitPayload, static: bytes, endpoint: str, now: float) -> bool:
        """Whether a request is no replay: newer than all before, or it meets a challenge."""
        if now - self._freshness.accepted_at(static) < self._local.timing.init_interval:
            raise Refused("rate_limited")
        reference = self._freshness.reference(static)
        if payload.timestamp > reference:
            return True
        return payload.timestamp != reference and self._jar.check_challenge(
            payload.challenge, static, endpoint, reference, now
        )

    def _make_room(self, static: bytes, *, known: bool) -> None:
        """Free a place among the pending ones, at the cost of a stranger's if need be."""
        previous = self._pending.get(static)
        if previous is not None:
            self._forget(previous)
        if len(self._pending) < MAX_PENDING:
            return
        for pending in [one for one in self._pending.values() if one.keypair.confirmed]:
            self._forget(pending)
        if len(self._pending) >= MAX_PENDING:
            if not known:
                raise Refused("rate_limited")
            self._forget(next(iter(self._pending.values())))

    def _forget(self, pending: _Pending) -> None:
        del self._pending[pending.static]
        del self._requests[pending.request]
