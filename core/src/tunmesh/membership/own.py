"""This node's own record: what it says, since when it holds what, and its sequence numbers."""

from __future__ import annotations

import math
from ipaddress import ip_interface
from typing import Any

import msgspec

from tunmesh.identity.keys import NodeKey
from tunmesh.membership.fields import address_untrusted, unpack_address
from tunmesh.membership.records import NodeRecord, Profile, sign_record


class OwnRecord:
    """Signs this node's records.

    Args:
        key: This node's key.
        boot_id: Of this process.
        profile: What the node says of itself.
        now: The time.
        initial_seq: Sequence number of the first record.
        reclaim: Seconds between two records signed because others hold a newer one.

    Attributes:
        record: The current record.
        reclaim_at: When to sign again because others hold a newer one.
    """

    def __init__(
        self,
        key: NodeKey,
        boot_id: str,
        profile: Profile,
        *,
        now: float,
        initial_seq: int,
        reclaim: float,
    ) -> None:
        self._key = key
        self._boot_id = boot_id
        self._profile = profile
        self._seq = initial_seq - 1
        self._held: dict[bytes, float] = {}  # addresses, and since when
        self._left = False
        self._reclaim = reclaim
        self._reclaimed = -math.inf
        self.reclaim_at = math.inf
        self.record = self._sign(profile, now)

    def update(self, changes: dict[str, Any], now: float) -> None:
        """Change fields of the profile.

        Raises:
            BadPacket: Others would not accept such a record; nothing has changed.
            TypeError: There is no such field.
        """
        profile = msgspec.structs.replace(self._profile, **changes)
        self.record = self._sign(profile, now)
        self._profile = profile

    def leave(self, now: float) -> None:
        """Say goodbye, in this record and all later ones."""
        self._left = True
        self.record = self._sign(self._profile, now)

    def returned(self, record: NodeRecord, now: float) -> None:
        """Others hold this record of this node: continue above it if it is newer.

        Another process with the same key would answer in kind, without end: so not too often.
        """
        if record.supersedes(self.record):
            self._seq = max(self._seq, record.seq)
            self.reclaim_at = max(now, self._reclaimed + self._reclaim)

    def reclaim(self, now: float) -> None:
        """Sign again, above what others hold."""
        self._reclaimed = now
        self.reclaim_at = math.inf
        self.record = self._sign(self._profile, now)

    def is_local(self, other: NodeRecord) -> bool:
        """Whether a node has an address in a subnet of this one.

        Link-local addresses say nothing: all nodes have the same subnet.
        """
        hosts = [unpack_address(host) for host in other.hosts]
        return any(
            host in interface.network
            for interface in map(ip_interface, self.record.addresses)
            if not interface.is_link_local
            for host in hosts
        )

    def _sign(self, profile: Profile, now: float) -> NodeRecord:
        texts = [address_untrusted(text) for text in profile.addresses]
        held = {ip_interface(text).ip.packed: now for text in texts}
        held.update((host, since) for host, since in self._held.items() if host in held)
        record = sign_record(
            self._key,
            profile,
            held_s=tuple(round(now - held[ip_interface(text).ip.packed], 3) for text in texts),
            seq=self._seq + 1,
            boot_id=self._boot_id,
            left=self._left,
        )
        self._seq = record.seq
        self._held = held
        return record
