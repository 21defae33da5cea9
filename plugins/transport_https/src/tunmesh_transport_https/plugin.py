"""The hooks of the entry point ``https``; everything else is imported when the node starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunmesh.plugin import Transport, TransportContext, TransportRegistration, hookimpl
from tunmesh_transport_https.options import Options

if TYPE_CHECKING:
    from tunmesh.plugin import Finding, HostView


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


@hookimpl
def tunmesh_checks(host: HostView) -> Iterable[Finding]:
    """Look at the ports."""
    import socket  # noqa: PLC0415 - only for the doctor

    from tunmesh.underlay.ports import check_ports  # noqa: PLC0415 - only for the doctor

    options: Options = host.options
    return () if host.device else check_ports(options.listen, socket.SOCK_STREAM)
