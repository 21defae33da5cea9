"""What the doctor looks at for the device, on a host that consists of a few files."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tunmesh.interfaces import Finding, HostView
from tunmesh_tun_linux import checks
from tunmesh_tun_linux.options import Options

GOOD = {
    "dev/net/tun": "",
    "proc/sys/net/ipv6/conf/default/disable_ipv6": "0",
    "proc/sys/kernel/osrelease": "6.12.1-generic",
    "sys/class/net/eth0/operstate": "up",
    "sys/class/net/eth0/mtu": "1500",
    "sys/class/net/tun1/mtu": "1400",
}


@pytest.fixture(autouse=True)
def privileges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The capabilities of this process; the last is used."""
    masks = [1 << 12]

    class Held:
        usable = property(lambda _: masks[-1])

    monkeypatch.setattr(checks, "capabilities", Held)
    return masks


def found(root: Path, files: dict[str, str], **options: Any) -> dict[str, Finding]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    networks = tuple(map(ip_network, ("10.42.0.0/16", "fd42::/48")))
    view = HostView(root=root, networks=networks, **{"options": Options(), **options})
    return {finding.check: finding for finding in checks.check(view)}


def test_a_good_host(tmp_path: Path) -> None:
    findings = found(tmp_path, GOOD)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert set(findings) == {"device", "capabilities", "ipv6", "offloads"}


@pytest.mark.parametrize(
    ("path", "text", "check", "level", "mend"),
    [
        (
            "proc/sys/net/ipv6/conf/default/disable_ipv6",
            "1",
            "ipv6",
            "broken",
            "sysctl -w net.ipv6.conf.default.disable_ipv6=0",
        ),
        ("proc/sys/kernel/osrelease", "5.15.0", "offloads", "notice", "Linux 6.2 or later"),
        (
            "sys/class/net/eth0/mtu",
            "1450",
            "mtu",
            "notice",
            "plugins.tun_linux.mtu = 1356, on all nodes",
        ),
    ],
)
def test_what_is_wrong(
    tmp_path: Path, path: str, text: str, check: str, level: str, mend: str
) -> None:
    finding = found(tmp_path, {**GOOD, path: text})[check]
    assert (finding.level, finding.mend) == (level, mend)


def test_no_device_at_all(tmp_path: Path) -> None:
    findings = found(tmp_path, {})
    assert findings["device"].level == findings["ipv6"].level == "broken"
    assert "modprobe tun" in findings["device"].mend


def test_without_privileges_a_device_must_be_there(tmp_path: Path, privileges: list[int]) -> None:
    privileges.append(0)
    assert "tunmesh tun setup" in found(tmp_path, GOOD)["capabilities"].mend
    there = {**GOOD, "sys/class/net/tun1/tun_flags": "0x1", "sys/class/net/tun1/owner": "4711"}
    finding = found(tmp_path, there)["capabilities"]
    assert (finding.level, "uid 4711" in finding.text) == ("broken", True)


def test_the_running_node_shows_that_it_could(tmp_path: Path, privileges: list[int]) -> None:
    privileges.append(0)
    setting = {"proc/sys/net/ipv6/conf/tun7/disable_ipv6": "1"}
    findings = found(tmp_path, {**GOOD, **setting}, device="tun7")
    assert "capabilities" not in findings
    assert findings["ipv6"].mend == "sysctl -w net.ipv6.conf.tun7.disable_ipv6=0"
