"""The table ``[plugins.tun_linux]`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tunmesh.interfaces.tun import Network

#: MTU for ``"auto"``: one slice of a unit over underlays of 1500 bytes, IPv4 and IPv6 alike.
AUTO_MTU = 1400

Device = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_.+@=-]{1,15}$",  # IFNAMSIZ less the final zero
        description=(
            "name of the TUN device, up to 15 letters, digits and _.+@=-; the device is made "
            "at the start and removed at the end"
        ),
    ),
]

Mtu = Annotated[
    Literal["auto"] | Annotated[int, msgspec.Meta(ge=1280, le=65000)],
    msgspec.Meta(description='"auto" is 1400; IPv6 needs 1280 or more'),
]

Routes = Annotated[
    tuple[Network, ...],
    msgspec.Meta(description="more prefixes to route into the tunnel, such as 192.0.2.0/24"),
]

TxQueueLen = Annotated[
    int,
    msgspec.Meta(
        ge=1, le=100_000, description="packets that may wait for tunmesh; 500 is the kernel's own"
    ),
]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the Linux TUN device."""

    device: Device = "tun1"
    mtu: Mtu = "auto"
    routes: Routes = ()
    txqueuelen: TxQueueLen = 500
