"""Lets a mesh that runs follow a changed configuration. Nothing is dropped on the way."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tunmesh.membership.timing import DirectoryTiming
    from tunmesh.mesh.core import Mesh
    from tunmesh.mesh.settings import MeshSettings
    from tunmesh.peering.timing import PathTiming
    from tunmesh.session.timing import Timing

    Times = TypeVar("Times", Timing, PathTiming, DirectoryTiming)


def own_copy(settings: MeshSettings) -> MeshSettings:
    """Settings whose times may be changed without changing those of another mesh."""
    return replace(
        settings,
        session=replace(settings.session),
        paths=replace(settings.paths),
        directory=replace(settings.directory),
    )


def reconfigure(mesh: Mesh, settings: MeshSettings, now: float) -> None:
    """Bring a mesh in line with other settings.

    New intervals hold from the next deadline on. The networks cannot change; other suites make a
    new session with every peer, during which the old one is used.

    Args:
        mesh: What runs.
        settings: What it should be like.
        now: The time.

    Raises:
        BadPacket: Others would not accept the record that follows from them.
    """
    old = mesh.settings
    _follow(old.session, settings.session)
    _follow(old.paths, settings.paths)
    _follow(old.directory, settings.directory)
    mesh.settings = replace(settings, session=old.session, paths=old.paths, directory=old.directory)
    mesh.forwarding.set_rules(settings.accept_subnets, settings.broadcast, settings.broadcast_rate)
    mesh.relaying.willing = settings.relay
    mesh.carriers.set_advertise(settings.advertise)
    if (settings.relay, mesh.carriers.endpoints()) != (old.relay, mesh.directory.own.endpoints):
        mesh.directory.update_own(now, relay=settings.relay, endpoints=mesh.carriers.endpoints())
    mesh.directory.timing_changed(now)
    if settings.eager_peers != old.eager_peers:
        mesh.members.set_eager_peers(settings.eager_peers)
    if settings.suites != old.suites:
        mesh.handshakes.set_suites(settings.suites)
        for peer in mesh.peers.values():
            peer.renew(now)
    mesh.members.pump()


def _follow(mine: Times, theirs: Times) -> None:
    """Take over all times, in the object that everybody holds."""
    for field in fields(mine):
        setattr(mine, field.name, getattr(theirs, field.name))
