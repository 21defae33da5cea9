"""The helper process itself, on a real device."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute, NetlinkError

from tests.tun_linux.test_tun_hostnet import addresses, routes
from tunmesh.errors import TunError
from tunmesh.interfaces import DeviceConfig
from tunmesh.privileges import CAP_NET_ADMIN, capabilities
from tunmesh_tun_linux.helper import HelperProcess
from tunmesh_tun_linux.hostnet import HostNet
from tunmesh_tun_linux.requests import BIND, REQUEST_SIZE
from tunmesh_tun_linux.tunfd import open_tun

pytestmark = pytest.mark.system

NETWORKS = tuple(map(ipaddress.ip_network, ("10.77.0.0/16", "fd77::/48")))
CONFIG = DeviceConfig(
    (ipaddress.ip_interface("10.77.0.1/24"), ipaddress.ip_interface("fd77::1/64")), NETWORKS
)


@pytest.fixture
def device(fresh_netns: None) -> Iterator[str]:
    opened = open_tun("tun1")
    HostNet("tun1").bring_up(1400, 500)
    yield opened.name
    os.close(opened.fd)


def start(device: str) -> HelperProcess:
    user = (os.geteuid(), os.getegid())
    helper = HelperProcess(user, NETWORKS, [ipaddress.ip_network("192.168.0.0/16")])
    helper.bind(socket.if_nametoindex(device))
    return helper


@pytest.fixture
def helper(device: str) -> Iterator[HelperProcess]:
    helper = start(device)
    yield helper
    helper.close()


def test_it_has_one_capability_and_nothing_open(helper: HelperProcess) -> None:
    HostNet("tun1", helper).apply(CONFIG)
    found = capabilities(helper.pid)
    assert found.effective == found.permitted == 1 << CAP_NET_ADMIN
    assert found.bounding == found.inheritable == found.ambient == 0
    assert found.no_new_privileges
    files = Path(f"/proc/{helper.pid}/fd")
    kinds = {str((files / path.name).readlink()).partition(":")[0] for path in files.iterdir()}
    own = str(Path("/proc/self/fd/2").readlink()).partition(":")[0]
    assert kinds <= {"/dev/null", "socket", "anon_inode", "pipe", own}


def test_it_adds_and_takes_back(device: str) -> None:
    helper = start(device)
    host = HostNet("tun1", helper)
    host.apply(CONFIG)
    assert addresses() == {"10.77.0.1/24", "fd77::1/64"}
    assert routes() == {"10.77.0.0/16", "fd77::/48"}
    lan = (ipaddress.ip_network("192.168.7.0/24"),)
    host.apply(DeviceConfig(CONFIG.addresses, NETWORKS, lan))
    assert "192.168.7.0/24" in routes()
    host.apply(CONFIG)
    assert "192.168.7.0/24" not in routes()
    host.close(device_stays=True)
    helper.close()
    assert addresses() == routes() == set()


def test_what_it_refuses(helper: HelperProcess) -> None:
    host = HostNet("tun1", helper)
    with pytest.raises(TunError, match=r"cannot route 198\.51\.100\.0/24 into tun1: Permission"):
        host.apply(CONFIG, [ipaddress.ip_network("198.51.100.0/24")])
    for message in (b"x", bytes(REQUEST_SIZE), bytes(REQUEST_SIZE - 1), bytes(REQUEST_SIZE + 9)):
        assert int.from_bytes(helper._exchange(message, answered=True), "big") == errno.EINVAL
    host.apply(CONFIG)  # it lives on


def test_it_touches_no_other_device(helper: HelperProcess) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="other", kind="veth", peer="cable")
    other = socket.if_nametoindex("other")
    # The index is no part of a request; a second binding is just a message of the wrong size.
    answer = helper._exchange(BIND.pack(other), answered=True)
    assert int.from_bytes(answer, "big") == errno.EINVAL
    HostNet("tun1", helper).apply(CONFIG)
    assert addresses("other") == set()


def test_it_slows_down_those_who_want_too_much(helper: HelperProcess) -> None:
    message = bytes(REQUEST_SIZE)
    for _ in range(1000):
        helper._exchange(message, answered=True)
    began = time.monotonic()
    for _ in range(50):
        helper._exchange(message, answered=True)
    assert time.monotonic() - began > 0.2


def test_its_end_is_noticed(helper: HelperProcess) -> None:
    assert not select.select([helper.pidfd], [], [], 0)[0]
    os.kill(helper.pid, 9)
    assert select.select([helper.pidfd], [], [], 5)[0]
    with pytest.raises((TunError, NetlinkError), match="helper process"):
        HostNet("tun1", helper).apply(CONFIG)
