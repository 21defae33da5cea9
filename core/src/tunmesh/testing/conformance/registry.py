"""Which test of the kit checks which method of an interface, or which hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

#: Of each method (``Transport.send``) and hook (``tunmesh_peer_up``), the tests that check it.
CHECKS: dict[str, list[str]] = {}


def covers(*names: str) -> Callable[[F], F]:
    """Enter a test for the methods and hooks that it checks."""

    def enter(test: F) -> F:
        for name in names:
            CHECKS.setdefault(name, []).append(test.__qualname__)
        return test

    return enter
