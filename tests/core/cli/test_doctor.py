"""What the doctor finds on a host that consists of a few files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.admin.status import (
    DeviceStatus,
    MeshStatus,
    NodeStatus,
    PeerStatus,
    RefusedStatus,
    Status,
)
from tunmesh.cli.doctor import command
from tunmesh.cli.doctor.checks import check_clock, check_host, check_node, check_state_dir
from tunmesh.cli.doctor.routes import (
    HostRoute,
    covers,
    of_underlay,
    overlaps,
    parse_routes4,
    parse_routes6,
)
from tunmesh.interfaces import Finding, HostView

Run = Callable[..., Any]
NOW = time.time()
#: eth0 has 192.168.5.0/24 and the way out, tun1 10.42.0.0/16; as the kernel writes it.
ROUTES4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0105A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun1\t00002A0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
MORE4 = "eth1\t00072A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
_ZEROS = "0" * 32
ROUTES6 = (
    f"fd420000000000000000000000000000 30 {_ZEROS} 00 {_ZEROS} 00000400 00000001 0 00000001 tun1\n"
    f"fe800000000000000000000000000000 40 {_ZEROS} 00 {_ZEROS} 00000100 00000001 0 00000001 eth0\n"
    f"{_ZEROS} 00 {_ZEROS} 00 {_ZEROS} ffffffff 00000001 0 00200200 lo\n"
)


def host(root: Path, files: dict[str, str] | None = None, **options: Any) -> HostView:
    base = {
        "proc/net/route": ROUTES4,
        "proc/net/ipv6_route": ROUTES6,
        "proc/sys/net/ipv4/conf/all/rp_filter": "0",
        "proc/sys/net/ipv4/conf/default/rp_filter": "2",
    }
    for name, text in {**base, **(files or {})}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if "\n" not in text else text)
    networks = tuple(map(ip_network, ("10.42.0.0/16", "fd42::/48")))
    return HostView(root=root, **{"networks": networks, **options})


def found(view: HostView) -> dict[str, Finding]:
    findings = list(check_host(view, ("tun1",), NOW))
    return {finding.check: finding for finding in findings if finding.check != "clock"}


def test_a_good_host(tmp_path: Path) -> None:
    findings = found(host(tmp_path))
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert set(findings) == {"networks", "rp_filter"}


def test_a_route_that_takes_packets_from_the_mesh(tmp_path: Path) -> None:
    finding = found(host(tmp_path, {"proc/net/route": ROUTES4 + MORE4}))["networks"]
    assert finding.level == "broken"
    assert "10.42.7.0/24 by eth1" in finding.text
    assert finding.mend.startswith("ip route del 10.42.7.0/24 dev eth1")


def test_a_route_that_the_mesh_hides(tmp_path: Path) -> None:
    wide = ROUTES4 + "eth1\t0000000A\t0105A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
    finding = found(host(tmp_path, {"proc/net/route": wide}))["networks"]
    assert finding.level == "notice"
    assert "hides a part of the route 10.0.0.0/8 by eth1" in finding.text


@pytest.mark.parametrize(("routes", "level"), [(ROUTES4, "notice"), (ROUTES4 + MORE4, "warning")])
def test_a_strict_filter_matters_where_routes_overlap(
    tmp_path: Path, routes: str, level: str
) -> None:
    files = {"proc/net/route": routes, "proc/sys/net/ipv4/conf/all/rp_filter": "1"}
    files["proc/sys/net/ipv4/conf/default/rp_filter"] = "0"
    finding = found(host(tmp_path, files))["rp_filter"]
    assert finding.level == level
    assert finding.mend == "sysctl -w net.ipv4.conf.all.rp_filter=2"


def test_the_looser_filter_counts(tmp_path: Path) -> None:
    files = {"proc/sys/net/ipv4/conf/all/rp_filter": "1"}  # the default is 2
    assert found(host(tmp_path, files))["rp_filter"].level == "ok"


def test_subnets_need_forwarding_and_a_route(tmp_path: Path) -> None:
    subnets = tuple(map(ip_network, ("192.168.5.0/25", "192.168.9.0/24")))
    files = {"proc/sys/net/ipv4/ip_forward": "0"}
    findings = found(host(tmp_path, files, subnets=subnets))
    assert findings["forwarding"].level == "broken"
    assert findings["forwarding"].mend == "sysctl -w net.ipv4.ip_forward=1"
    assert findings["subnets"].level == "warning"
    assert "192.168.9.0/24" in findings["subnets"].text
    (tmp_path / "proc/sys/net/ipv4/ip_forward").write_text("1\n")
    assert found(host(tmp_path, subnets=subnets[:1]))["forwarding"].level == "ok"


def test_a_host_without_proc(tmp_path: Path) -> None:
    view = HostView(root=tmp_path, networks=(ip_network("10.42.0.0/16"),))
    assert {finding.level for finding in found(view).values()} == {"ok"}


def test_routes_of_ipv6() -> None:
    routes = list(parse_routes6(ROUTES6))
    assert routes[0] == HostRoute(ip_network("fd42::/48"), "tun1", False)
    assert len(routes) == 2  # one is a route that refuses
    assert of_underlay(routes, ["tun1"]) == []


def test_routes_of_ipv4() -> None:
    assert [str(route.prefix) for route in parse_routes4(ROUTES4)] == [
        "0.0.0.0/0",
        "192.168.5.0/24",
        "10.42.0.0/16",
    ]


prefixes = st.builds(
    lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)


@given(prefixes, prefixes)
def test_overlaps_are_those_of_ipaddress(prefix: Any, network: Any) -> None:
    route = HostRoute(prefix, "eth0", False)
    assert bool(overlaps([route], network)) == prefix.overlaps(network)
    assert covers(route, network) == network.subnet_of(prefix)


def test_clock() -> None:
    assert check_clock(NOW, synchronized=True).level == "ok"
    assert check_clock(NOW, synchronized=False).level == "notice"
    assert "1970" in check_clock(3600.0, synchronized=True).text


def test_state_dir(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (finding,) = check_state_dir(tmp_path)
    assert finding.mend == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert [finding.level for finding in check_state_dir(tmp_path)] == ["ok"]
    assert list(check_state_dir(tmp_path / "later")) == []


def status(*peers: str, **changes: Any) -> Status:
    return Status(
        version="1",
        mesh=MeshStatus("m", ()),
        node=NodeStatus("0" * 32, "a", (), (), (), 1.0, changes.pop("healthy", True)),
        device=DeviceStatus("tun1", "tun_linux", 1400, ()),
        plugins=(),
        peers=tuple(
            PeerStatus("1" * 32, "b", (), (), state, "direct", (), 0, 0, 0, 0, None)
            for state in peers
        ),
        routes=(),
        groups=(),
        drops={},
        **changes,
    )


def test_what_the_node_says() -> None:
    forward = "subnet S cannot be reached: it does not forward; run `sysctl -w x=1`"
    refused = RefusedStatus("10.0.0.0/8", "b", "because")
    sick = status("down", healthy=False, warnings=(forward,), refused=(refused,), conflicts=("c",))
    levels = [(finding.check, finding.level, finding.mend) for finding in check_node(sick)]
    assert levels[:2] == [
        ("node", "broken", "see its log"),
        ("node", "warning", "sysctl -w x=1"),
    ]
    assert [check for check, *_ in levels[2:]] == ["addresses", "routes", "peers"]
    assert [finding.level for finding in check_node(status("up", "down"))] == ["ok"]
    assert [finding.level for finding in check_node(status())] == ["notice"]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host of no files, and no node that runs."""
    monkeypatch.setattr(command, "ROOT", tmp_path / "root")
    return tmp_path


CONFIG = """
mesh = {{networks = ["10.42.0.0/16"], secret_file = "{secret}"}}
plugins = {{enabled = ["shouter"]}}
admin = {{socket = "{socket}"}}
"""


def configured(directory: Path, mode: int = 0o600) -> Path:
    secret = directory / "mesh.secret"
    secret.write_text("0123456789abcdefghijklmnopqrstuvwxyz\n")
    secret.chmod(mode)
    path = directory / "tunmesh.toml"
    path.write_text(CONFIG.format(secret=secret, socket=directory / "x.sock"))
    return path


@pytest.mark.usefixtures("shouter")
def test_command(run: Run, on: Path) -> None:
    code, out, err = run("doctor", "-c", str(configured(on)), "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["schema"], document["healthy"]) == (1, True)
    findings = {finding["check"]: finding for finding in document["findings"]}
    assert findings["configuration"]["level"] == "ok"
    assert findings["node"]["level"] == "notice"


@pytest.mark.usefixtures("shouter")
def test_what_is_broken_comes_first_and_exits_with_1(run: Run, on: Path) -> None:
    code, out, _ = run("doctor", "-c", str(configured(on, mode=0o644)))
    assert code == 1
    first, second, *_ = out.splitlines()
    assert first.startswith("BROKEN    secret")
    assert second.strip() == f"mend: chmod 600 {on}/mesh.secret"


def test_a_configuration_that_is_no_toml(run: Run, on: Path) -> None:
    path = on / "tunmesh.toml"
    path.write_text("[mesh\n")
    code, out, err = run("doctor", "-c", str(path), "--socket", str(on / "x.sock"))
    assert (code, err) == (1, "")
    assert "not TOML" in out
    assert "Traceback" not in out
