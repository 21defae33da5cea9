"""What the tests of transports are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from tunmesh.loader.validation import Role
from tunmesh.testing.conformance.base import Conformance
from tunmesh.testing.conformance.ends import End, free_port
from tunmesh.testing.conformance.stage import Stage


class TransportTests(Conformance):
    """Base of the tests of transports."""

    role: ClassVar[Role] = "transport"
    #: Whether endpoints hold IP addresses, so that those inside the mesh are refused.
    over_ip: bool = True

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        """The plugin's table of the configuration for a node that others reach at one endpoint.

        Args:
            port: A free port, to listen on at 127.0.0.1: another one for each node, and the same
                when a node opens again.
            folder: For a transport that listens at a path instead: make a name of the port.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say its settings")

    def end(self, stage: Stage, folder: Path, port: int, *overlay: str) -> End:
        """A transport that is not open yet."""
        return End(
            stage,
            self.registration().factory,
            self.options(self.settings(port, folder)),
            name=self.name,
            number=port,
            overlay=overlay,
        )

    @asynccontextmanager
    async def ends(
        self, folder: Path, count: int = 2, *, ports: list[int] | None = None
    ) -> AsyncIterator[list[End]]:
        """Open transports on one stage."""
        async with self.stage() as stage, AsyncExitStack() as stack:
            made = [self.end(stage, folder, port) for port in ports or _ports(count)]
            for end in made:
                opened = await stack.enter_async_context(end.transport)
                assert opened is end.transport, "__aenter__ has to return the transport itself"
            yield made


def _ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)
