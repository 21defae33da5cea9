"""Everything about the messages that come before and between sessions, for one node.

::

    initiator                                   responder
        | KEYQ  ------------------------------->  |     only if the static key is not known
        | <-------------------------------  KEYR  |
        | INIT  ------------------------------->  |     new keypair: Session.install, `next`
        | <------------------- RESP (or COOKIE)   |     a COOKIE asks for another INIT
        | first unit  ------------------------->  |     Session.authenticated: `current`

Contains no I/O and knows nothing of paths: a request may be sent to several endpoints. Outsiders
get no answer whatever they send, and every answer is smaller than its question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tunmesh.counters import Drops
from tunmesh.errors import BadHandshake, BadPacket, ConfigError
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.session import suites as suite_rules
from tunmesh.session import wire
from tunmesh.session.events import Event, KeyLearned
from tunmesh.session.initiator import Initiation, Initiations
from tunmesh.session.local import Local, Refused
from tunmesh.session.queries import Queries
from tunmesh.session.responder import Responses
from tunmesh.session.timing import Timing

_COUNTERS: Final = (
    "ok",
    "failed",
    "unanswered",
    "under_load",
    "challenged",
    "repeated",
    "limited",
    "queried",
)


def _nothing_forbidden(_static: bytes) -> bool:
    return False


def _no_index_used(_index: int) -> bool:
    return False


class Handshakes:
    """The handshakes of one node.

    Args:
        key: The node key.
        keyring: The secrets of the mesh.
        boot_id: 8 random bytes of this process.
        suites: Suites that may be used; which of them follows from a fixed rule.
        hardware_aes: Whether the processor has AES instructions.
        max_datagram: Bytes of the largest datagram that this node takes.
        wall_ns: Nanoseconds since 1970. Used for nothing but the freshness of requests.
        timing: Times and limits.
        drops: Where dropped messages are counted.
        forbidden: Whether a static key is blocked.
        index_used: Whether a receiver index belongs to a keypair, so that it is not given twice.
        capabilities: Bit set to present to peers.
        force_under_load: Always ask for cookies.
        now: The time.

    Attributes:
        counters: Handshakes by what became of them. ``ok``: keypairs made; ``failed``: messages
            that did not authenticate or agree; ``unanswered``: requests without an answer;
            ``under_load``, ``challenged``: cookies asked for; ``repeated``: requests seen before;
            ``limited``: messages over a limit; ``queried``: key queries answered.
    """

    __slots__ = (
        "_drops",
        "_hardware_aes",
        "_index_used",
        "_initiations",
        "_local",
        "_queries",
        "_responses",
        "counters",
    )

    def __init__(
        self,
        key: NodeKey,
        keyring: Keyring,
        *,
        boot_id: bytes,
        suites: Sequence[int],
        hardware_aes: bool,
        max_datagram: int,
        wall_ns: Callable[[], int],
        timing: Timing,
        drops: Drops,
        forbidden: Callable[[bytes], bool] = _nothing_forbidden,
        index_used: Callable[[int], bool] = _no_index_used,
        capabilities: int = 0,
        force_under_load: bool = False,
        now: float = 0.0,
    ) -> None:
        self._hardware_aes = hardware_aes
        offer, default_suite = self._offer(suites)
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._drops = drops
        self._index_used = index_used
        self._local = Local(
            key=key,
            keyring=keyring,
            boot_id=boot_id,
            suites=offer,
            default_suite=default_suite,
            capabilities=capabilities,
            max_datagram=max_datagram,
            wall_ns=wall_ns,
            timing=timing,
            forbidden=forbidden,
            index_taken=self._index_taken,
            counters=self.counters,
        )
        self._queries = Queries(self._local)
        self._initiations = Initiations(self._local)
        self._responses = Responses(self._local, now, force_under_load=force_under_load)

    @property
    def half_open(self) -> int:
        """Requests of others that were answered but not confirmed yet."""
        return self._responses.half_open

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept other secrets from now on; sessions go on until they are renewed."""
        self._local.set_keyring(keyring)
        self._initiations.secrets_changed()

    def set_suites(self, suites: Sequence[int]) -> None:
        """Offer other suites from now on; sessions go on until they are renewed."""
        self._local.suites, self._local.default_suite = self._offer(suites)

    def query(self, now: float, attempt: int = 0) -> tuple[int, bytes]:
        """A KEYQ for one endpoint, and the index that its `KeyLearned` will carry.

        Args:
            now: The time.
            attempt: How often that endpoint was asked before, without an answer: each asks under
                the next of the mesh secrets.
        """
        return self._queries.ask(now, attempt)

    def initiate(self, static: bytes, now: float) -> Initiation:
        """A new request for a session with the holder of a static key.

        Requests made before it stay answerable for `Timing.pending`.

        Raises:
            LocalProtocolError: The static key is this node's own.
            BadHandshake: The static key is of low order.
        """
        return self._initiations.make(static, now)

    def receive(
        self, data: bytes, source: bytes, endpoint: str, now: float, *, known: bool = False
    ) -> list[Event]:
        """Take a datagram that is no DATA.

        Args:
            data: The whole datagram.
            source: What strangers are limited by.
            endpoint: Where it came from, as a URL.
            now: The time.
            known: Whether that is an endpoint of a peer: it is served even if tables are full.
        """
        try:
            return self._receive(data, source, endpoint, now, known=known)
        except BadPacket:
            reason = "bad_packet"
        except BadHandshake:
            reason = "auth_failed"
            self.counters["failed"] += 1
        except Refused as exc:
            reason = exc.reason
            self.counters["limited"] += reason == "rate_limited"
        self._drops[reason] += 1
        return []

    def expire(self, now: float) -> None:
        """Forget what is too old. To be called now and then; every message does so too."""
        self._queries.expire(now)
        self._initiations.expire(now)
        self._responses.expire(now)

    def _offer(self, suites: Sequence[int]) -> tuple[int, int]:
        """What to offer, and what to ask of a node whose offer is not known."""
        offer = suite_rules.offer(suites, hardware_aes=self._hardware_aes)
        default_suite = suite_rules.choose(offer, offer)
        if default_suite is None:
            raise ConfigError("no cipher suite is allowed", key="mesh.cipher")
        return offer, default_suite

    def _receive(
        self, data: bytes, source: bytes, endpoint: str, now: float, *, known: bool
    ) -> list[Event]:
        kind = data[0] if data else 0
        if kind == wire.INIT:
            return self._responses.receive_request(data, source, endpoint, now, known=known)
        if kind == wire.RESP:
            return self._initiations.receive_response(data, endpoint, now)
        if kind == wire.COOKIE:
            return self._initiations.receive_cookie(data, now)
        if kind == wire.KEYQ:
            return self._queries.receive_query(data, source, now, known=known)
        if kind == wire.KEYR:
            events = self._queries.receive_reply(data, now)
            for event in events:
                if isinstance(event, KeyLearned):
                    self._initiations.learn(event.static, event.suites, event.psk_id)
            return events
        raise BadPacket(f"a message of the unknown type {kind}")

    def _index_taken(self, index: int) -> bool:
        return (
            index in self._initiations
            or index in self._responses
            or index in self._queries
            or self._index_used(index)
        )
