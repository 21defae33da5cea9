"""Tests of transports: opening, closing, and what is left."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from tunmesh.testing.conformance.cancellation import cancel_at
from tunmesh.testing.conformance.ends import End, free_port
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import until
from tunmesh.testing.conformance.transport_base import TransportTests


class TransportLife(TransportTests):
    """Every stage of these tests has to be empty at the end: `Stage.emptied`."""

    @covers("Transport.__aenter__", "Transport.__aexit__")
    async def test_the_factory_opens_nothing(self, folder: Path) -> None:
        """Building the object takes no descriptor, watch or task."""
        async with self.stage() as stage:
            self.end(stage, folder, free_port())
            assert stage.left() == []

    @covers("Transport.__aenter__", "Transport.__aexit__")
    async def test_closing_leaves_nothing(self, folder: Path) -> None:
        """Neither when nothing was sent, nor with paths in use."""
        async with self.ends(folder):
            pass
        async with self.ends(folder) as (a, b):
            await b.deliver(await a.deliver(a.path_to(b.endpoint), b, b"there"), a, b"back")

    @covers("Transport.__aexit__")
    async def test_closing_twice_is_harmless(self, folder: Path) -> None:
        """The second time does nothing."""
        async with self.ends(folder) as (a, b):
            await a.deliver(a.path_to(b.endpoint), b, b"there")
            for end in (a, b, a, b):
                await end.transport.__aexit__(None, None, None)

    @covers("Transport.__aexit__")
    async def test_closing_what_never_opened_is_harmless(self, folder: Path) -> None:
        """It may have failed to open, or nobody tried."""
        port = free_port()
        async with self.stage() as stage:
            end = self.end(stage, folder, port)
            await end.transport.__aexit__(None, None, None)
        async with self.ends(folder, ports=[port]) as (a,):
            other = self.end(a.stage, folder, port)
            try:
                await other.transport.__aenter__()
            except Exception as error:  # noqa: BLE001  # of which kind, another test asks
                await other.transport.__aexit__(type(error), error, error.__traceback__)

    @covers("Transport.__aenter__")
    async def test_the_endpoint_is_free_after_closing(self, folder: Path) -> None:
        """A node that restarts listens where it did."""
        ports = [free_port(), free_port()]
        for _ in range(2):
            async with self.ends(folder, ports=ports) as (a, b):
                await a.deliver(a.path_to(b.endpoint), b, b"there")

    @covers("Transport.__aenter__")
    async def test_cancelled_while_it_opens(self, folder: Path) -> None:
        """At whichever wait that happens, nothing is left."""
        for n in count():
            async with self.stage() as stage:
                end = self.end(stage, folder, free_port())
                outcome = await cancel_at(n, end.transport.__aenter__)
                if outcome.finished:
                    await end.transport.__aexit__(None, None, None)
            if not outcome.reached:
                return

    @covers("Transport.__aexit__")
    async def test_cancelled_while_it_closes(self, folder: Path) -> None:
        """At whichever wait that happens, everything is closed nevertheless."""
        for n in count():
            async with self.stage() as stage:
                a, b = (self.end(stage, folder, free_port()) for _ in range(2))
                async with b.transport:
                    await a.transport.__aenter__()
                    await a.deliver(a.path_to(b.endpoint), b, b"there")
                    outcome = await cancel_at(n, a.transport.__aexit__, None, None, None)
            if not outcome.reached:
                return

    @covers("Transport.send", "Transport.release", "Transport.__aexit__")
    async def test_sending_after_closing_is_lost_without_an_error(self, folder: Path) -> None:
        """The core may hold handles a little longer than the transport."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            back = await a.deliver(handle, b, b"there")
            b.transport.adopt(back)
            await b.transport.__aexit__(None, None, None)
            await a.transport.__aexit__(None, None, None)
            for end, path in ((a, handle), (b, back)):
                end.send(path, b"too late")
                end.transport.release(path)
                end.send(path, b"too late")

    @covers("Transport.__aexit__")
    async def test_closing_while_datagrams_are_on_their_way(self, folder: Path) -> None:
        """Either end may go at any time: while a path opens, while the other sends."""
        for waiting in (False, True):
            for first in (0, 1):
                async with self.ends(folder) as ends:
                    await self._flow(*ends, waiting=waiting)
                    gone, stays = ends[first], ends[1 - first]
                    endpoint = gone.endpoint
                    await gone.transport.__aexit__(None, None, None)
                    stays.send(stays.path_to(endpoint), b"anybody?")

    async def _flow(self, a: End, b: End, *, waiting: bool) -> None:
        handle = a.path_to(b.endpoint)
        a.send(handle, *[b"x" * 1000] * 20)
        if waiting:
            await a.deliver(handle, b, b"there")
            a.send(handle, *[b"y" * 1000] * 20)

    @covers("Inbound.path_closed")
    async def test_a_path_that_is_gone_is_told_once(self, folder: Path) -> None:
        """If at all: a path without streams is never gone, and nothing comes by one that is."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            back = await a.deliver(handle, b, b"there")
            b.transport.adopt(back)
            await a.transport.__aexit__(None, None, None)
            for _ in range(5):
                b.send(back, b"anybody?")
            if not b.transport.reveals_endpoint:  # each path is a stream of its own
                await until(lambda: b.inbound.closed, "path_closed", self.patience)
