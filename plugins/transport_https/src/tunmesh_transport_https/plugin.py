"""The hooks of the entry point ``https``; everything else is imported when the node starts."""

from __future__ import annotations

from collections.abc import Iterable

from tunmesh.plugin import Transport, TransportContext, TransportRegistration, hookimpl
from tunmesh_transport_https.options import Options


def _build(context: TransportContext) -> Transport:
    from tunmesh_transport_https.transport import (  # noqa: PLC0415 - not for `--help`
        HttpsTransport,
    )

    return HttpsTransport(context)


@hookimpl
def tunmesh_transports() -> Iterable[TransportRegistration]:
    """Offer the transport over HTTPS."""
    return [
        TransportRegistration(
            summary="HTTPS, through proxies and load balancers, where UDP is blocked",
            factory=_build,
            options=Options,
        )
    ]
