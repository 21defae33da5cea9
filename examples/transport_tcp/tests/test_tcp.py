"""What every transport has to do is tested by the kit; here is what is this one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tunmesh.plugin import TransportError
from tunmesh.testing import FakeTransportContext
from tunmesh.testing.conformance import TransportConformance
from tunmesh_transport_tcp.plugin import Options
from tunmesh_transport_tcp.transport import TcpTransport


class TestTcp(TransportConformance):
    plugin = "tcp"

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": f"127.0.0.1:{port}"}


@pytest.mark.anyio
@pytest.mark.parametrize("listen", ["nowhere", "localhost:1", "127.0.0.1:http"])
async def test_what_is_no_address_to_listen_on_is_one_line(listen: str) -> None:
    context = FakeTransportContext(Options(listen=listen), name="tcp")
    with pytest.raises(TransportError, match="cannot listen on tcp"):
        await TcpTransport(context).__aenter__()
