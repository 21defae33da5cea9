"""The transports that are shipped under the kit; those of the examples have tests of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunmesh.testing.conformance import TransportConformance


class TestUdp(TransportConformance):
    plugin = "udp"

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": [f"127.0.0.1:{port}"]}


class TestHttps(TransportConformance):
    plugin = "https"

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": [f"127.0.0.1:{port}"]}
