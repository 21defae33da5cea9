"""The hooks and the options of the plugin ``tcp``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tunmesh.plugin import Transport, TransportContext, TransportRegistration, hookimpl


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.tcp]``."""

    listen: Annotated[
        str, msgspec.Meta(description="address and port to listen on, as 192.0.2.1:4568")
    ] = "127.0.0.1:4568"


def _build(context: TransportContext) -> Transport:
    from tunmesh_transport_tcp.transport import TcpTransport  # noqa: PLC0415  # only a node does

    return TcpTransport(context)


@hookimpl
def tunmesh_transports() -> Iterable[TransportRegistration]:
    """Offer the transport."""
    return [
        TransportRegistration(
            summary="TCP (an example)",
            factory=_build,
            options=Options,
        )
    ]
