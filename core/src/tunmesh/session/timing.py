"""Times and limits of sessions and handshakes, in seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Timing:
    """When sessions are renewed and given up. Tests shorten it; operators set the first two.

    Not frozen: whoever holds it follows a changed configuration.

    Attributes:
        rekey_after: Age at which the initiator renews a keypair (as WireGuard).
        reject_after: Age at which a keypair is used no longer, in either direction.
        rekey_bytes: Bytes in one direction after which a keypair is renewed.
        reject_bytes: Bytes after which it sends no more. 2^40 bytes are 2^36 AES blocks, which
            leaves an attacker on AES-GCM an advantage below 2^-56.
        pending: How long an initiation may be answered, and a response be repeated.
        query: How long a query may be answered.
        cookie: Life of the key that cookies are made with; the one before it is still accepted.
        init_interval: Least time between two initiations that are accepted from one peer.
        confirm_wait: How long a responder waits for the initiator's confirmation before it may
            open a handshake itself.
        simultaneous: Keypairs made within this time by opposite sides were opened at once.
        retry_interval: Least time between two immediate retries to a peer for the same reason.
        under_load_half_open: Handshakes waiting for confirmation from which on cookies are asked.
        under_load_hold: How long load lasts after its last sign.
    """

    rekey_after: float = 120.0
    reject_after: float = 180.0
    rekey_bytes: int = 2**38
    reject_bytes: int = 2**40
    pending: float = 10.0
    query: float = 15.0
    cookie: float = 120.0
    init_interval: float = 0.02
    confirm_wait: float = 1.0
    simultaneous: float = 3.0
    retry_interval: float = 1.0
    under_load_half_open: int = 128
    under_load_hold: float = 1.0

    @property
    def responder_rekey_after(self) -> float:
        """Age at which the responder renews a keypair, if the initiator did not: 165 s."""
        return self.rekey_after + 0.75 * (self.reject_after - self.rekey_after)

    @property
    def responder_rekey_bytes(self) -> int:
        """Bytes after which the responder renews a keypair, if the initiator did not."""
        return self.rekey_bytes + (self.reject_bytes - self.rekey_bytes) * 3 // 4
