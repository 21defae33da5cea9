from __future__ import annotations

from pathlib import Path

import pytest

from tunmesh.interfaces import HostView
from tunmesh_transport_udp.checks import check
from tunmesh_transport_udp.options import Options

OPTIONS = Options(listen=("127.0.0.1:0",))


@pytest.mark.parametrize(
    ("limit", "checks"), [(212992, ["ports", "buffers"]), (8 << 20, ["ports"])]
)
def test_buffers(tmp_path: Path, limit: int, checks: list[str]) -> None:
    path = tmp_path / "proc/sys/net/core/rmem_max"
    path.parent.mkdir(parents=True)
    path.write_text(f"{limit}\n")
    findings = list(check(HostView(options=OPTIONS, root=tmp_path)))
    assert [finding.check for finding in findings] == checks
    assert limit == 8 << 20 or findings[1].mend == "sysctl -w net.core.rmem_max=8388608"


def test_a_running_node_has_its_ports_itself(tmp_path: Path) -> None:
    assert list(check(HostView(options=OPTIONS, root=tmp_path, device="tun1"))) == []
