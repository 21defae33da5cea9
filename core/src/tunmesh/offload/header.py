"""The `virtio_net_hdr` in front of each packet (virtio 1.3, section 5.1.6).

====== ==== =========================================================
offset size field
====== ==== =========================================================
0      1    flags
1      1    kind of superpacket (`gso_type`)
2      2    bytes of all headers of the packet (`hdr_len`), a hint
4      2    payload bytes of each segment (`gso_size`)
6      2    where the checksum begins, from the start of the packet
8      2    where in that area the checksum is stored
====== ==== =========================================================
"""

from __future__ import annotations

from struct import Struct

HEADER = Struct("<BBHHHH")
HEADER_SIZE = HEADER.size
NO_OFFLOAD = bytes(HEADER_SIZE)

# Flags.
NEEDS_CSUM = 1  # the checksum field holds the sum of the pseudo-header only
DATA_VALID = 2  # the checksum was verified

# Kinds of superpackets.
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # joined to a TCP kind: the first segment carries CWR

# Where the checksum stands in the transport header.
TCP_CHECKSUM = 16
UDP_CHECKSUM = 6

UDP_HEADER = 8
