from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tunmesh.interfaces import HostView
from tunmesh_multicast_igmp.checks import check


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("[server]\n#allow-point-to-point=no\n", "warning"),
        ("[server]\nallow-point-to-point=no\n", "warning"),
        ("[server]\nallow-point-to-point = yes\n", "ok"),
    ],
)
def test_avahi(tmp_path: Path, text: str, level: str) -> None:
    path = tmp_path / "etc/avahi/avahi-daemon.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (finding,) = check(HostView(root=tmp_path))
    assert finding.level == level
    if finding.mend and (sed := shutil.which("sed")):  # what is told to do does it
        program = finding.mend.partition("'")[2].partition("'")[0]
        subprocess.run([sed, "-i", program, path], check=True)
        assert [found.level for found in check(HostView(root=tmp_path))] == ["ok"]


def test_no_avahi(tmp_path: Path) -> None:
    assert list(check(HostView(root=tmp_path))) == []
