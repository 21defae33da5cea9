"""Offers the device of `tunmesh.testing` as a plugin."""

from __future__ import annotations

from collections.abc import Iterable

from tunmesh.plugin import Tun, TunContext, TunRegistration, hookimpl


def build(_: TunContext) -> Tun:
    from tunmesh.testing import MemoryTun  # noqa: PLC0415 - imports much

    return MemoryTun()


@hookimpl
def tunmesh_tun_backends() -> Iterable[TunRegistration]:
    return [TunRegistration(summary="in memory", factory=build)]
