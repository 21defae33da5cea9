"""Tests of opening, closing and what is left, for roles whose objects stand alone."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from typing import Any

from tunmesh.testing.conformance.base import Conformance
from tunmesh.testing.conformance.cancellation import cancel_at
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import Stage

_ROLES = ("Tun", "RoutingPolicy", "AddressProvider")
_ENTER = tuple(f"{role}.__aenter__" for role in _ROLES)
_EXIT = tuple(f"{role}.__aexit__" for role in _ROLES)


class LifeTests(Conformance):
    """Every stage of these tests has to be empty at the end: `Stage.emptied`."""

    def make(self, stage: Stage, folder: Path) -> AbstractAsyncContextManager[Any]:
        """The object, not opened yet."""
        raise NotImplementedError

    @covers(*_ENTER, *_EXIT)
    async def test_the_factory_opens_nothing(self, folder: Path) -> None:
        """Building the object takes no descriptor, watch or task."""
        async with self.stage() as stage:
            self.make(stage, folder)
            assert stage.left() == []

    @covers(*_ENTER, *_EXIT)
    async def test_closing_leaves_nothing(self, folder: Path) -> None:
        """Nor does it keep from opening again."""
        for _ in range(2):
            async with self.stage() as stage:
                made = self.make(stage, folder)
                async with made as opened:
                    assert opened is made, "__aenter__ has to return the object itself"

    @covers(*_EXIT)
    async def test_closing_twice_is_harmless(self, folder: Path) -> None:
        """The second time does nothing."""
        async with self.stage() as stage:
            made = self.make(stage, folder)
            await made.__aenter__()
            await made.__aexit__(None, None, None)
            await made.__aexit__(None, None, None)

    @covers(*_EXIT)
    async def test_closing_what_never_opened_is_harmless(self, folder: Path) -> None:
        """It may have failed to open."""
        async with self.stage() as stage:
            await self.make(stage, folder).__aexit__(None, None, None)

    @covers(*_ENTER)
    async def test_cancelled_while_it_opens(self, folder: Path) -> None:
        """At whichever wait that happens, nothing is left."""
        for n in count():
            async with self.stage() as stage:
                made = self.make(stage, folder)
                outcome = await cancel_at(n, made.__aenter__)
                if outcome.finished:
                    await made.__aexit__(None, None, None)
            if not outcome.reached:
                return

    @covers(*_EXIT)
    async def test_cancelled_while_it_closes(self, folder: Path) -> None:
        """At whichever wait that happens, everything is closed nevertheless."""
        for n in count():
            async with self.stage() as stage:
                made = self.make(stage, folder)
                await made.__aenter__()
                outcome = await cancel_at(n, made.__aexit__, None, None, None)
            if not outcome.reached:
                return
