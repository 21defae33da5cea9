"""What the directory tells its owner."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from tunmesh.membership.fields import Address
from tunmesh.membership.records import NodeRecord

Reason: TypeAlias = Literal["left", "stale", "replaced"]


class Added(msgspec.Struct, frozen=True, gc=False):
    """A node is there that was not."""

    record: NodeRecord


class Changed(msgspec.Struct, frozen=True, gc=False):
    """A node says something else of itself than before."""

    record: NodeRecord
    previous: NodeRecord


class Removed(msgspec.Struct, frozen=True, gc=False):
    """A node is gone: it said so, was silent for too long, or lost its address while silent."""

    node_id: str
    reason: Reason


class Stale(msgspec.Struct, frozen=True, gc=False):
    """A node has been silent for so long that its addresses are released."""

    node_id: str


class Fresh(msgspec.Struct, frozen=True, gc=False):
    """A stale node was heard again."""

    node_id: str


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """Two live nodes claim one address.

    Attributes:
        address: The address.
        holder: The node that has it.
        claimant: The node that claims it too.
        winner: The one that keeps it, which is the holder: a live claim is never displaced.
    """

    address: Address
    holder: str
    claimant: str
    winner: str


class ProbeHolder(msgspec.Struct, frozen=True, gc=False):
    """Make a node answer, if it can: another one claims its address."""

    node_id: str
    address: Address


Event: TypeAlias = Added | Changed | Removed | Stale | Fresh | Conflict | ProbeHolder
