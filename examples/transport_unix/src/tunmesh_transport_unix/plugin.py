"""The hooks and the options of the plugin ``unix``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tunmesh.plugin import Transport, TransportContext, TransportRegistration, hookimpl


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.unix]``."""

    listen: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="path of this node's socket; it is made, and removed in the end",
            extra={"path": True},  # relative to the configuration
        ),
    ] = "/run/tunmesh/node.sock"


def _build(context: TransportContext) -> Transport:
    from tunmesh_transport_unix.transport import UnixTransport  # noqa: PLC0415  # a node does

    return UnixTransport(context)


@hookimpl
def tunmesh_transports() -> Iterable[TransportRegistration]:
    """Offer the transport."""
    return [
        TransportRegistration(
            summary="Unix datagram sockets, for nodes on one host",
            factory=_build,
            options=Options,
        )
    ]
