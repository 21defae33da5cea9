"""Key queries: how a node learns the static key of who answers at an endpoint.

An answer proves only that its sender knows the secret. Should it be another member than the one
that was meant, the session that follows is with that member, under its own id.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from tunmesh.errors import BadHandshake, BadPacket
from tunmesh.identity.keys import node_id_of
from tunmesh.identity.secrets import MeshKeys
from tunmesh.session import noise, wire
from tunmesh.session.cookie import mac
from tunmesh.session.events import Event, KeyLearned, NoCommonSuite, Send
from tunmesh.session.limits import SourceLimiter
from tunmesh.session.local import Local, Refused
from tunmesh.session.suites import choose

_MAX_QUERIES: Final = 256


@dataclass(frozen=True, slots=True)
class _Query:
    mesh: MeshKeys
    mac: bytes
    created: float


class Queries:
    """Questions asked by this node, and answers to those of others.

    Args:
        local: This node.
    """

    __slots__ = ("_limiter", "_local", "_queries")

    def __init__(self, local: Local) -> None:
        self._local = local
        self._queries: dict[int, _Query] = {}  # in order of age
        self._limiter = SourceLimiter()

    def __contains__(self, index: int) -> bool:
        return index in self._queries

    def ask(self, now: float, attempt: int) -> tuple[int, bytes]:
        """A new KEYQ for one endpoint, with the index by which its answer is known.

        Args:
            now: The time.
            attempt: How often that endpoint was asked before, without an answer.
        """
        self.expire(now)
        if len(self._queries) >= _MAX_QUERIES:
            del self._queries[next(iter(self._queries))]
        mesh = self._local.keys_of_attempt(attempt).mesh
        index = self._local.new_index()
        body = wire.encode_key_query(index, secrets.token_bytes(16))
        query = _Query(mesh, mac(mesh.gate, body), now)
        self._queries[index] = query
        return index, body + query.mac

    def receive_query(self, data: bytes, source: bytes, now: float, *, known: bool) -> list[Event]:
        """Answer a KEYQ."""
        query = wire.decode_key_query_untrusted(data)
        body = data[: -wire.MAC_SIZE]
        for mesh in self._local.keyring.all:
            if hmac.compare_digest(mac(mesh.gate, body), query.mac):
                break
        else:
            raise BadHandshake("a KEYQ of another mesh")
        if not self._limiter.take(source, now, known=known):
            raise Refused("rate_limited")
        static = self._local.key.x25519_public
        reply = wire.encode_key_reply(query.sender, static, self._local.suites)
        self._local.counters["queried"] += 1
        return [Send(reply + mac(mesh.gate, query.mac + reply))]

    def receive_reply(self, data: bytes, now: float) -> list[Event]:
        """Take the answer to a query; each is answered once."""
        reply = wire.decode_key_reply_untrusted(data)
        query = self._queries.get(reply.receiver)
        if query is None or now - query.created >= self._local.timing.query:
            raise Refused("replay")
        expected = mac(query.mesh.gate, query.mac + data[: -wire.MAC_SIZE])
        if not hmac.compare_digest(expected, reply.mac):
            raise BadHandshake("a KEYR does not authenticate")
        if reply.highest_version < wire.VERSION:
            raise BadPacket("a KEYR without a version")
        noise.dh(self._local.key.x25519_private, reply.static)  # refuses keys of low order
        del self._queries[reply.receiver]
        node_id = node_id_of(reply.static)
        if choose(self._local.suites, reply.suites) is None:
            return [NoCommonSuite(node_id)]
        return [KeyLearned(reply.receiver, reply.static, node_id, reply.suites, query.mesh.psk_id)]

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._queries:
            index, query = next(iter(self._queries.items()))
            if now - query.created < self._local.timing.query:
                break
            del self._queries[index]
        self._limiter.expire(now)
