"""Whether a node does its work: the named checks of ``/health``, and ``/ready``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunmesh.mesh import Mesh

#: An event loop that was late by more, in seconds, does not keep up with its work.
_MOST_LAG = 5.0


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        ok: Whether all is well.
        detail: What was found, in a few words.
    """

    ok: bool
    detail: str


def registered(mesh: Mesh) -> Check:
    """Whether the node has reached another one, or needs none.

    It needs none if it has no URLs, if all lead to itself, or if it has tried as often as it may.
    """
    up = sum(peer.up for peer in mesh.peers.values())
    if up:
        return Check(ok=True, detail=f"{up} peers up")
    waiting = [
        group.name
        for group in mesh.joining.groups
        if group.urls and not group.satisfied and not group.exhausted
    ]
    if waiting:
        return Check(ok=False, detail=f"nobody answers at the URLs of {', '.join(waiting)}")
    if any(group.nodes for group in mesh.joining.groups):
        return Check(ok=False, detail="the nodes that were found do not answer")
    return Check(ok=True, detail="no other node is needed")


def health(mesh: Mesh, *, failure: str, lag: float, grace: bool) -> dict[str, Check]:
    """All checks by name.

    Args:
        mesh: The mesh.
        failure: Why the node is about to end; empty if it is not.
        lag: By how much the event loop was late of late, in seconds.
        grace: Whether the node has just started, so that it may be alone.
    """
    found = registered(mesh)
    if grace and not found.ok:
        found = Check(ok=True, detail=f"{found.detail}, which is forgiven after the start")
    transports = [transport.name for transport in mesh.carriers.transports]
    return {
        "device": Check(not failure, failure or "open"),
        "loop": Check(lag <= _MOST_LAG, f"late by at most {lag:.3f} s of late"),
        "registered": found,
        "transports": Check(bool(transports), ", ".join(transports) or "none is open"),
    }
