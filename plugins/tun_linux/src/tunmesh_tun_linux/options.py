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
            "name of the TUN device, up to 15 letters, digits and _.+@=-; it is made at the "
            "start and removed at the end, unless there is one that `tunmesh tun setup` made"
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


FileDescriptor = Annotated[
    int,
    msgspec.Meta(
        ge=-1,
        description=(
            "descriptor of an open TUN device that whoever starts tunmesh hands down to it; "
            "-1 for none"
        ),
    ),
]

Commands = Annotated[
    tuple[str | Annotated[tuple[str, ...], msgspec.Meta(min_length=1)], ...],
    msgspec.Meta(extra={"verbatim": True, "commands": True}),
]

Up = Annotated[
    Commands,
    msgspec.Meta(
        description=(
            'commands once the device is up: ["ip", "rule", "add", …] runs a program, a string '
            "runs in a shell; TUNMESH_DEVICE and others tell about the node; one that fails, or "
            "all that take more than 10 s, stop the start"
        )
    ),
]

Down = Annotated[
    Commands,
    msgspec.Meta(description="commands before the device goes, however the node ends"),
]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the Linux TUN device."""

    device: Device = "tun1"
    mtu: Mtu = "auto"
    routes: Routes = ()
    txqueuelen: TxQueueLen = 500
    fd: FileDescriptor = -1
    up: Up = ()
    down: Down = ()
