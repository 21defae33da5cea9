"""The way of a packet. Nothing here awaits, calls a hook, or logs.

::

    inside   TUN ─ read_batch ─ flow → hop ─ runs of one hop ─ seal ─ transport.send
    outside  transport ─ receive ─ keypair ─ join slices ─ open ─ check source ─ write_batch ─ TUN

Everything runs in callbacks of readable descriptors. Knows nothing of handshakes, membership or
how paths are chosen: those set the attributes of a `Port`, all that this package sees of a peer.
"""

from tunmesh.dataplane.inside import Inside
from tunmesh.dataplane.outside import Outside
from tunmesh.dataplane.port import Control, Port

__all__ = ["Control", "Inside", "Outside", "Port"]
