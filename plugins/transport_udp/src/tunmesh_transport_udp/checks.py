"""What ``tunmesh doctor`` looks at for UDP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from tunmesh.plugin import Finding, HostView
from tunmesh.underlay.ports import check_ports
from tunmesh_transport_udp.options import Options
from tunmesh_transport_udp.sockets import BUFFER_BYTES


def check(host: HostView) -> Iterator[Finding]:
    """Everything about the sockets."""
    options: Options = host.options
    if not host.device:  # else the node itself has the ports
        yield from check_ports(options.listen, socket.SOCK_DGRAM)
    for name in ("rmem_max", "wmem_max"):
        limit = host.number(f"/proc/sys/net/core/{name}")
        if limit is not None and limit < BUFFER_BYTES:
            text = f"without CAP_NET_ADMIN, socket buffers end at net.core.{name} = {limit} bytes"
            mend = f"sysctl -w net.core.{name}={BUFFER_BYTES}"
            yield Finding("buffers", "notice", f"{text}: bulk may be lost", mend)
