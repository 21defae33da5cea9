"""The transports that are shipped, and a stranger's, under the kit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.packaging.example_plugin import tunmesh_example_tcp
from tunmesh.testing.conformance import TransportConformance


class TestUdp(TransportConformance):
    plugin = "udp"

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": [f"127.0.0.1:{port}"]}


class TestHttps(TransportConformance):
    plugin = "https"

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": [f"127.0.0.1:{port}"]}


class TestExample(TransportConformance):
    plugin = tunmesh_example_tcp

    def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
        return {"listen": f"127.0.0.1:{port}"}
