"""Checksum and segmentation offloads: what stands in a frame's `virtio_net_hdr`, done in software.

A *frame* is a `virtio_net_hdr` of 10 bytes (little-endian) and one IP packet. The header may say
that the checksum is only begun, and that the packet is a *superpacket* to be cut into segments.
Frames of peers are checked with `check_frame_untrusted`; all other functions trust their input to
be such frames, or to come from the kernel. Contains no I/O.
"""

from tunmesh.offload.check import check_frame_untrusted
from tunmesh.offload.checksums import adapt, complete_checksum
from tunmesh.offload.coalesce import MAX_COALESCED, coalesce_udp
from tunmesh.offload.segment import split

__all__ = [
    "MAX_COALESCED",
    "adapt",
    "check_frame_untrusted",
    "coalesce_udp",
    "complete_checksum",
    "split",
]
