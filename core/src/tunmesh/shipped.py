"""The plugins that are published together with tunmesh: for messages that tell what to install."""

from __future__ import annotations

#: The distribution of each of them.
DISTRIBUTIONS = {
    "https": "tunmesh-transport-https",
    "ifaddr": "tunmesh-tun-linux",
    "igmp": "tunmesh-multicast-igmp",
    "tun_linux": "tunmesh-tun-linux",
    "udp": "tunmesh-transport-udp",
}
