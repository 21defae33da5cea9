"""The parts of the demo that need namespaces, without tunmesh: plain addresses on the underlay."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from tunmesh_tun_linux.demo import meter, namespaces
from tunmesh_tun_linux.demo.namespaces import DemoError, node_namespace, underlay_address
from tunmesh_tun_linux.demo.ping import ping
from tunmesh_tun_linux.demo.worker import Report, Worker

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def underlay() -> Iterator[None]:
    """Two namespaces on a bridge."""
    with namespaces.only_one():
        namespaces.remove_all()
        try:
            namespaces.create([namespaces.UNDERLAY, node_namespace(1), node_namespace(2)])
            namespaces.build_underlay(2)
            yield
        finally:
            namespaces.remove_all()
    assert not [name for name in netns.listnetns() if name.startswith(namespaces.PREFIX)]


def result(worker: Worker, timeout: float = 10.0) -> object:
    deadline = time.monotonic() + timeout
    while not worker.finished:
        assert time.monotonic() < deadline, "the worker does not end"
        worker.poll(0.1)
    return worker.result


def test_a_second_demo_is_refused(underlay: None) -> None:
    with pytest.raises(DemoError, match="another demo is running"), namespaces.only_one():
        pytest.fail("two demos at a time")


def test_being_inside_is_temporary(underlay: None) -> None:
    outside = Path("/proc/self/ns/net").readlink()
    with namespaces.entered(node_namespace(1)):
        assert Path("/proc/self/ns/net").readlink() != outside
        assert {name for _, name in socket.if_nameindex()} >= {"lo", "eth0"}
    assert Path("/proc/self/ns/net").readlink() == outside


def test_ping(underlay: None) -> None:
    targets = [underlay_address(2), "::1", "192.0.2.200"]
    with Worker(node_namespace(1), ping, targets, 2, 0.2) as worker:
        times = result(worker)
    assert isinstance(times, dict)
    assert all(0 < value < 0.2 for target in targets[:2] for value in times[target])
    assert times[targets[2]] == [None, None]


def test_tcp_throughput(underlay: None) -> None:
    address = underlay_address(2)
    with Worker(node_namespace(2), meter.tcp_receive, address) as sink:
        assert sink.poll(5) == meter.Flow(0, 0, 0.0)  # it listens
        with Worker(node_namespace(1), meter.tcp_send, address, 0.3) as source:
            flow = result(sink)
            result(source)
    assert isinstance(flow, meter.Flow)
    assert flow.bits_per_second > 100e6
    assert 0.2 < flow.seconds < 5


def test_udp_throughput(underlay: None) -> None:
    address = underlay_address(2)
    with Worker(node_namespace(2), meter.udp_receive, address) as sink:
        assert sink.poll(5) is not None
        with Worker(node_namespace(1), meter.udp_send, address, 100, 0.3) as source:
            flow, sent = result(sink), result(source)
    assert isinstance(flow, meter.Flow)
    assert isinstance(sent, int)
    assert 0 < flow.packets <= sent
    assert flow.bytes == flow.packets * 100


def _fail(_report: Report) -> None:
    raise OSError(errno.ENETUNREACH, "Network is unreachable")


def _crash(_report: Report) -> None:
    os._exit(1)


def _sleep(report: Report) -> None:
    report(os.getpid())
    time.sleep(60)


def test_a_worker_that_fails(underlay: None) -> None:
    with (
        Worker(node_namespace(1), _fail) as worker,
        pytest.raises(DemoError, match="_fail: Network is unreachable"),
    ):
        result(worker)


def test_a_worker_that_crashes(underlay: None) -> None:
    with (
        Worker(node_namespace(1), _crash) as worker,
        pytest.raises(DemoError, match="_crash ended without a result"),
    ):
        result(worker)


def test_leaving_ends_a_worker(underlay: None) -> None:
    with Worker(node_namespace(1), _sleep) as worker:
        pid = worker.poll(5)
        assert worker.poll(0) is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
