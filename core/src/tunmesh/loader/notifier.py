"""The hook manager, and the typed calls of the notification hooks. Knows no loading."""

from __future__ import annotations

import logging

import pluggy

from tunmesh import hookspecs
from tunmesh.interfaces.events import NodeInfo, PeerInfo
from tunmesh.loader.report import one_line

log = logging.getLogger(__name__)


class Notifier:
    """Tells plugins what happens; what one of them raises is logged with its name."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    def implementations(self, hook: str, name: str = "") -> list[pluggy.HookImpl]:
        """Those who implement a hook, first named first; of one plugin, if it is given."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        implementations = reversed(caller.get_hookimpls())
        return [found for found in implementations if name in ("", found.plugin_name)]

    def notify_node_started(self, node: NodeInfo) -> None:
        """Tell the plugins that the node is up."""
        self._notify("tunmesh_node_started", node=node)

    def notify_node_stopping(self, node: NodeInfo) -> None:
        """Tell the plugins that the node is about to stop."""
        self._notify("tunmesh_node_stopping", node=node)

    def notify_peer_up(self, peer: PeerInfo) -> None:
        """Tell the plugins that a peer can be reached."""
        self._notify("tunmesh_peer_up", peer=peer)

    def notify_peer_down(self, peer: PeerInfo, reason: str) -> None:
        """Tell the plugins that a peer can no longer be reached."""
        self._notify("tunmesh_peer_down", peer=peer, reason=reason)

    def _notify(self, hook: str, **arguments: object) -> None:
        for implementation in self.implementations(hook):
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except Exception as error:  # a plugin cannot hurt the node
                log.error(  # noqa: TRY400  # one line; the traceback is for debugging
                    "plugin hook failed plugin=%s hook=%s error=%s",
                    implementation.plugin_name,
                    hook,
                    one_line(error),
                    exc_info=log.isEnabledFor(logging.DEBUG),
                )
