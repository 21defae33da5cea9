"""The hooks and the options of the plugin ``qemu``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tunmesh.plugin import Tun, TunContext, TunRegistration, hookimpl


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.qemu]``."""

    socket: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="path of the socket that the virtual machine connects to",
            extra={"path": True},  # relative to the configuration
        ),
    ] = "/run/tunmesh/qemu.sock"
    mtu: Annotated[
        int,
        msgspec.Meta(ge=1280, le=9000, description="of the machine's network card, as set there"),
    ] = 1400


def _build(context: TunContext) -> Tun:
    from tunmesh_tun_qemu.device import QemuTun  # noqa: PLC0415  # only a node does

    return QemuTun(context)


@hookimpl
def tunmesh_tun_backends() -> Iterable[TunRegistration]:
    """Offer the device."""
    return [
        TunRegistration(
            summary="the network card of a virtual machine, without privileges",
            factory=_build,
            options=Options,
        )
    ]
