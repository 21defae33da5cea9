"""What a handshake message leads to."""

from __future__ import annotations

from dataclasses import dataclass

from tunmesh.session.keypair import Keypair


@dataclass(frozen=True, slots=True)
class Remote:
    """What the other node said of itself in an authentic handshake.

    Attributes:
        static: Its X25519 static key.
        node_id: Its id, which belongs to that key.
        boot_id: Tells its processes apart.
        suites: Its offer, see `tunmesh.session.suites`.
        capabilities: Bit set.
        max_datagram: Bytes of the largest datagram that it takes.
        observed: This node's endpoint as the other one sees it, if this side began and the
            endpoint has a literal address.
    """

    static: bytes
    node_id: str
    boot_id: bytes
    suites: int
    capabilities: int
    max_datagram: int
    observed: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A datagram for where the received one came from."""

    datagram: bytes


@dataclass(frozen=True, slots=True)
class KeyLearned:
    """A query was answered. Nothing is proven but that the answerer knows the secret.

    The answerer may be this node itself. `psk_id` tells which secret that is.
    """

    query_index: int
    static: bytes
    node_id: str
    suites: int
    psk_id: bytes


@dataclass(frozen=True, slots=True)
class Established:
    """A handshake yielded a keypair, for `Session.install`.

    The initiator should send something under it at once, which confirms it. The responder
    should commit nothing to the peer before that.
    """

    keypair: Keypair
    remote: Remote


@dataclass(frozen=True, slots=True)
class Retry:
    """The peer asks for another initiation, which is to be made now.

    It has to go where the received datagram came from: what it carries holds for this node's
    endpoint as seen there.
    """

    static: bytes


@dataclass(frozen=True, slots=True)
class NoCommonSuite:
    """A node cannot be reached because it allows none of this node's suites."""

    node_id: str


Event = Send | KeyLearned | Established | Retry | NoCommonSuite
