"""The directional keys that one handshake yields, and what is counted under them."""

from __future__ import annotations

from typing import Any

from tunmesh.identity import hkdf
from tunmesh.session.replay import COUNTER_LIMIT, ReplayWindow
from tunmesh.session.suites import aead
from tunmesh.session.timing import Timing


class Keypair:
    """Keys for sending to and receiving from one peer.

    The nonce of a unit is its direction's iv XOR its header's word; `send_counter` never goes
    back, and the ciphers are reached through here only.

    Args:
        local_index: Receiver index of what arrives: our choice.
        remote_index: Receiver index of what is sent: the peer's choice.
        suite: One of `tunmesh.session.suites`.
        initiator: Whether this side began the handshake.
        created: When; the initiator takes the time of its request, so that of both sides it
            is the first to give the keypair up.
        boot_id: Of the peer's process that took part.
        send_secret: Noise's key for sending.
        recv_secret: Noise's key for receiving.
        psk_id: Tells which mesh secret took part; not secret.

    Attributes:
        confirmed: Whether an authentic unit arrived under it: the peer has the keys.
        sent_bytes: Bytes of ciphertext.
        received_bytes: Bytes of ciphertext.
        peer: For the owner alone.
        rx_units: For the owner's estimate of loss, like the next two.
    """

    __slots__ = (
        "boot_id",
        "confirmed",
        "created",
        "initiator",
        "local_index",
        "peer",
        "psk_id",
        "received_bytes",
        "recv_aead",
        "recv_iv",
        "remote_index",
        "replay",
        "rx_expected",
        "rx_got",
        "rx_units",
        "send_aead",
        "send_counter",
        "send_iv",
        "sent_bytes",
        "suite",
    )

    def __init__(
        self,
        *,
        local_index: int,
        remote_index: int,
        suite: int,
        initiator: bool,
        created: float,
        boot_id: bytes,
        send_secret: bytes,
        recv_secret: bytes,
        psk_id: bytes = b"",
    ) -> None:
        self.local_index = local_index
        self.remote_index = remote_index
        self.suite = suite
        self.initiator = initiator
        self.created = created
        self.boot_id = boot_id
        self.psk_id = psk_id
        self.confirmed = False
        self.send_aead = aead(suite, hkdf.expand(send_secret, b"tm1 key", 32))
        self.recv_aead = aead(suite, hkdf.expand(recv_secret, b"tm1 key", 32))
        self.send_iv = int.from_bytes(hkdf.expand(send_secret, b"tm1 iv", 12), "big")
        self.recv_iv = int.from_bytes(hkdf.expand(recv_secret, b"tm1 iv", 12), "big")
        self.send_counter = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.replay = ReplayWindow()
        self.peer: Any = None
        self.rx_units = 0
        self.rx_expected = 0
        self.rx_got = 0

    def __repr__(self) -> str:
        role = "initiator" if self.initiator else "responder"
        return f"<Keypair {self.local_index:08x} {role}{' confirmed' if self.confirmed else ''}>"

    def expired(self, now: float, timing: Timing) -> bool:
        """Whether it is too old for both directions."""
        return now - self.created >= timing.reject_after

    def exhausted(self, now: float, timing: Timing) -> bool:
        """Whether nothing may be sent under it any more."""
        return (
            now - self.created >= timing.reject_after
            or self.sent_bytes >= timing.reject_bytes
            or self.send_counter >= COUNTER_LIMIT
        )

    def wants_rekey(self, now: float, timing: Timing) -> bool:
        """Whether this side should replace it by a handshake of its own.

        The initiator's limits are lower, so that normally only one side acts.
        """
        if self.initiator:
            age, size = timing.rekey_after, timing.rekey_bytes
        else:
            age, size = timing.responder_rekey_after, timing.responder_rekey_bytes
        return now - self.created >= age or max(self.sent_bytes, self.received_bytes) >= size
