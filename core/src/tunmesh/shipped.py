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
#: The role that each of them has.
ROLES = {
    "https": "transport",
    "ifaddr": "address",
    "igmp": "policy",
    "tun_linux": "tun",
    "udp": "transport",
}
