"""The hooks of the entry point ``udp``; everything else is imported when the node starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunmesh.plugin import Transport, TransportContext, TransportRegistration, hookimpl
from tunmesh_transport_udp.options import Options

if TYPE_CHECKING:
    from tunmesh.plugin import Finding, HostView


def _build(context: TransportContext) -> Transport:
    from tunmesh_transport_udp.transport import UdpTransport  # noqa: PLC0415 - not for `--help`

    return UdpTransport(context)


@hookimpl
def tunmesh_transports() -> Iterable[TransportRegistration]:
    """Offer the transport over UDP."""
    return [
        TransportRegistration(
            summary="UDP over IPv4 and IPv6, with segmentation and receive offloads",
            factory=_build,
            options=Options,
        )
    ]


@hookimpl
def tunmesh_checks(host: HostView) -> Iterable[Finding]:
    """Look at ports and buffers."""
    from tunmesh_transport_udp.checks import check  # noqa: PLC0415 - only for the doctor

    return check(host)
