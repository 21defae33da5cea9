"""The core without any plugin: it is of little use, but says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.installation import Installation

pytestmark = pytest.mark.timeout(180)


def test_the_core_alone_tells_what_is_missing(tmp_path: Path, wheels: dict[str, Path]) -> None:
    core = Installation(tmp_path / "core", [wheels["tunmesh"]])
    core.pip("check")
    listed = core.run("tunmesh", "plugins")
    assert listed.returncode == 0
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        [name, "missing"] for name in ("tun_linux", "ifaddr", "udp", "https", "igmp")
    ]
    for role, name, distribution in (
        ("tun", "tun_linux", "tunmesh-tun-linux"),
        ("transport", "udp", "tunmesh-transport-udp"),
    ):
        assert f"no plugin fills the role {role} " in listed.stderr
        assert f"{name}: is not installed, install {distribution}" in listed.stderr

    core.environ["TUNMESH_SECRET"] = core.succeed("tunmesh", "secret", "generate").strip()
    refused = core.run("tunmesh", "run", "--set", 'mesh.networks=["10.42.0.0/16"]')
    assert refused.returncode == 2
    assert "no plugin fills the role tun (tun_linux: is not installed, " in refused.stderr
    assert "Traceback" not in refused.stderr
    unknown = core.run("tunmesh", "demo")
    assert unknown.returncode == 2
    assert "there is no command demo" in unknown.stderr
