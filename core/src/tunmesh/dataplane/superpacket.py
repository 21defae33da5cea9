"""How many packets a superpacket is."""

from __future__ import annotations

import struct

#: Bytes of a `virtio_net_hdr`.
VNET = 10
#: Of a `virtio_net_hdr`: gso_type, hdr_len, gso_size.
GSO = struct.Struct("<xBHH")


def measure(view: memoryview, packet: int, end: int) -> tuple[int, int]:
    """How many packets a superpacket will be, and how many bytes of IP they are.

    Args:
        view: What it lies in, its `virtio_net_hdr` before it.
        packet: Where its IP header begins.
        end: Where it ends.
    """
    _, header, segment = GSO.unpack_from(view, packet - VNET)
    packets = -(-(end - packet - header) // (segment or 1)) or 1
    return packets, end - packet + (packets - 1) * header
