"""Tells the log and the plugins what happens in the mesh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tunmesh import logs
from tunmesh.interfaces.events import PeerInfo

if TYPE_CHECKING:
    from tunmesh.loader.manager import PluginHost
    from tunmesh.mesh import Mesh
    from tunmesh.peering.path import Path
    from tunmesh.peering.peer import Peer

log = logging.getLogger(__name__)


class Announcer:
    """The part of a `tunmesh.mesh.Observer` that only tells.

    Args:
        plugins: The plugins, loaded.

    Attributes:
        mesh: Set as soon as there is one.
    """

    mesh: Mesh

    def __init__(self, plugins: PluginHost) -> None:
        self._plugins = plugins

    def peer_up(self, peer: Peer) -> None:
        """A peer can be reached."""
        info = self._peer_info(peer)
        link = peer.paths.active.handle.endpoint if peer.paths.active else ""
        log.info("peer up peer=%s id=%s link=%s", logs.safe(info.name), info.id, link)
        self._plugins.notify_peer_up(info)

    def peer_down(self, peer: Peer, reason: str) -> None:
        """A peer can no longer be reached."""
        info = self._peer_info(peer)
        log.info("peer down peer=%s id=%s reason=%s", logs.safe(info.name), info.id, reason)
        self._plugins.notify_peer_down(info, reason)

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        """Traffic to a peer takes another path."""
        log.info(
            "path changed peer=%s link=%s reason=%s",
            logs.safe(self._peer_info(peer).name),
            path.handle.endpoint,
            reason,
        )

    def event(self, name: str, **fields: object) -> None:
        """Anything else worth a line."""
        # A template of its own, so that the event is limited apart and JSON has its fields.
        template = " ".join([name, *(f"{field}=%s" for field in fields)])
        log.warning(template, *map(logs.safe, fields.values()))

    def _peer_info(self, peer: Peer) -> PeerInfo:
        record = self.mesh.directory.records.get(peer.node_id)
        name = record.name if record else peer.node_id[:8]
        owned = self.mesh.directory.claims.owned(peer.node_id)
        return PeerInfo(peer.node_id, name, tuple(map(str, owned)))
