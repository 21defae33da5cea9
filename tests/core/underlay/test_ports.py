from __future__ import annotations

import socket

import pytest

from tunmesh.underlay.ports import check_ports


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_in_use(kind: socket.SocketKind, host: str) -> None:
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.socket(family, kind) as other:
        other.bind((host.strip("[]"), 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        (finding,) = check_ports([f"{host}:{port}"], kind)
        assert finding.level == "broken"
        assert f"'sport = :{port}'" in finding.mend
    (finding,) = check_ports([f"{host}:{port}"], kind)
    assert finding.level == "ok"


def test_an_address_of_somebody_else() -> None:
    (finding,) = check_ports(["192.0.2.1:4567"], socket.SOCK_DGRAM)
    assert finding.level == "broken"
    assert finding.mend == "another address in the plugin's listen"
