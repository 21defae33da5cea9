"""Every hook that a plugin may implement. Hooks are for set-up and events, never for packets.

Registration hooks return an iterable of registrations and are called once. Notification hooks
return nothing, must not block, and cannot hurt the node: what they raise is logged with the
plugin's name. All hooks are ordinary functions; ``async def`` is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import argparse

    from tunmesh.interfaces import (
        AddressRegistration,
        Finding,
        HostView,
        PolicyRegistration,
        TransportRegistration,
        TunRegistration,
    )
    from tunmesh.interfaces.events import NodeInfo, PeerInfo

PROJECT = "tunmesh"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def tunmesh_tun_backends() -> Iterable[TunRegistration]:
    """Offer TUN backends.

    Called once, before the node starts, and by commands that need a plugin's options: it opens
    nothing. Returns at most one registration, which belongs to the plugin. A plugin that raises or
    returns anything else is ``rejected``, and stops the node only if somebody named it.

    Example::

        @hookimpl
        def tunmesh_tun_backends():
            return [TunRegistration(summary="Linux TUN", factory=LinuxTun, options=Options)]

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def tunmesh_transports() -> Iterable[TransportRegistration]:
    """Offer transports.

    Called once, before the node starts, and by commands that need a plugin's options. What may be
    returned and raised is as for `tunmesh_tun_backends`.

    Example::

        @hookimpl
        def tunmesh_transports():
            return [TransportRegistration(summary="over UDP", factory=Udp, options=Options)]

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def tunmesh_routing_policies() -> Iterable[PolicyRegistration]:
    """Offer routing policies.

    Called once, before the node starts, and by commands that need a plugin's options. What may be
    returned and raised is as for `tunmesh_tun_backends`.

    Example::

        @hookimpl
        def tunmesh_routing_policies():
            return [PolicyRegistration(summary="multicast", factory=Igmp, options=Options)]

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def tunmesh_address_providers() -> Iterable[AddressRegistration]:
    """Offer address providers.

    Called once, before the node starts, and by commands that need a plugin's options. What may be
    returned and raised is as for `tunmesh_tun_backends`.

    Example::

        @hookimpl
        def tunmesh_address_providers():
            return [AddressRegistration(summary="from a file", factory=FileAddresses)]

    .. versionadded:: 0.1
    """
    return ()


@hookspec
def tunmesh_node_started(node: NodeInfo) -> None:
    """The node is up: device, transports and policies have started.

    Called once. Must not block, since packets wait meanwhile; what it raises is logged with the
    plugin's name.

    Example::

        @hookimpl
        def tunmesh_node_started(node):
            log.info("node up id=%s", node.id)

    .. versionadded:: 0.1
    """


@hookspec
def tunmesh_node_stopping(node: NodeInfo) -> None:
    """The node is about to stop; everything still works.

    Called once, unless the node ends by an error. Must not block; what it raises is logged with the
    plugin's name.

    Example::

        @hookimpl
        def tunmesh_node_stopping(node):
            log.info("node stops id=%s", node.id)

    .. versionadded:: 0.1
    """


@hookspec
def tunmesh_peer_up(peer: PeerInfo) -> None:
    """A session with a peer is confirmed and a path to it is alive.

    Called each time that a peer comes up. As long as its record is not known, it has no addresses,
    and its name is the start of its id. Must not block; what it raises is logged with the plugin's
    name.

    Example::

        @hookimpl
        def tunmesh_peer_up(peer):
            log.info("peer up name=%s", peer.name)

    .. versionadded:: 0.1
    """


@hookspec
def tunmesh_peer_down(peer: PeerInfo, reason: str) -> None:
    """No path to a peer is alive any longer.

    Called each time that a peer that was up goes down. Must not block; what it raises is logged
    with the plugin's name.

    Example::

        @hookimpl
        def tunmesh_peer_down(peer, reason):
            log.info("peer down name=%s reason=%s", peer.name, reason)

    .. versionadded:: 0.1
    """


@hookspec
def tunmesh_add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add commands to the command line.

    Called for every *selected* plugin when the command line is not one of the core's own. Set the
    default ``handler`` of each parser to a function from the parsed arguments to an exit code, and
    import what it needs inside that function. A plugin that raises is named in the error message if
    the command is not found.

    Example::

        @hookimpl
        def tunmesh_add_commands(subparsers):
            parser = subparsers.add_parser("hello", help="say hello")
            parser.set_defaults(handler=say_hello)

    .. versionadded:: 0.1
    """


@hookspec
def tunmesh_checks(host: HostView) -> Iterable[Finding]:  # noqa: ARG001  # a specification
    """Look at the host, for ``tunmesh doctor``.

    Called for every selected plugin, whether a node runs or not. Look only, change nothing, and
    take no longer than a moment. Tell of what is well, too. What it raises is shown as a finding.

    Example::

        @hookimpl
        def tunmesh_checks(host):
            if host.read("/dev/radio") is None:
                yield Finding("radio", "broken", "there is no /dev/radio", "modprobe radio")

    .. versionadded:: 0.1
    """
    return ()
