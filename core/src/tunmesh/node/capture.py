"""Answers ``tunmesh capture``: packets as they pass, as a stream of `admin.records.Batch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import msgspec
from msgspec import Meta

from tunmesh.admin.records import POINTS, Point, encode_batch
from tunmesh.errors import AdminError
from tunmesh.mesh.capturing import Capture

if TYPE_CHECKING:
    from tunmesh.mesh import Mesh

#: Seconds in which packets gather before they are sent on, so that a few cost no more than one.
_GATHER = 0.02


class _Request(msgspec.Struct):
    points: tuple[Point, ...] = POINTS
    snap: Annotated[int, Meta(ge=20, le=65535)] = 65535


class CaptureStream:
    """One capture; at most one at a time, since all packets take the way past it.

    Args:
        mesh: Whose packets.
        request: With ``points`` and ``snap``.

    Raises:
        AdminError: The request makes no sense, or somebody captures already.
    """

    def __init__(self, mesh: Mesh, request: dict[str, Any]) -> None:
        try:
            wanted = msgspec.convert(request, _Request)
        except msgspec.ValidationError as error:
            raise AdminError(f"capture: {error}") from error
        self._mesh = mesh
        self._something = anyio.Event()
        self._capture = Capture(
            wanted.points,
            wanted.snap,
            wall_ns=time.time_ns,
            name=mesh.name_of,
            wake=self._wake,
        )
        if not mesh.open_tap(self._capture):
            raise AdminError("somebody captures already: end that `tunmesh capture` first")

    async def next(self) -> bytes:
        """The next batch; waits until packets pass."""
        await self._something.wait()
        await anyio.sleep(_GATHER)
        self._something = anyio.Event()
        return encode_batch(self._capture.take())

    def close(self) -> None:
        """Look at packets no longer."""
        self._mesh.close_tap(self._capture)

    def _wake(self) -> None:
        self._something.set()
