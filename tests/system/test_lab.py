"""The laboratory itself: what it claims to do to a network, it does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.icmp import PingStream, first_replies
from tests.system.lab import Host, Lab, LabError, Namespace

UDP_SEGMENT = 103


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab(["a", "b", "c"], segmented=True)
    yield lab
    lab.close()


def received(sender: Host, receiver: Host, count: int, *, segment: int = 0) -> int:
    """How many of `count` datagrams of 1000 bytes arrive."""
    with (
        receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        sink.bind((receiver.address4, 9999))
        sink.settimeout(0.1)
        if segment:
            source.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        arrived = 0
        for _ in range(count // 10):
            if segment:
                source.sendto(bytes(10_000), (receiver.address4, 9999))
            else:
                for _ in range(10):
                    source.sendto(bytes(1000), (receiver.address4, 9999))
            sink.setblocking(False)
            try:
                while sink.recv(2000):
                    arrived += 1
            except BlockingIOError:
                continue
        return arrived


def test_all_hosts_reach_each_other(lab: Lab) -> None:
    hosts = list(lab.hosts.values())
    pairs: list[tuple[Namespace, str]] = [
        (source, address)
        for source in hosts
        for target in hosts
        if source is not target
        for address in (target.address4, target.address6)
    ]
    assert len(first_replies(pairs, 2)) == len(pairs)


@pytest.mark.parametrize("segment", [0, 1000])
def test_loss_meets_single_datagrams(lab: Lab, segment: int) -> None:
    assert received(lab["a"], lab["b"], 1000, segment=segment) == 1000
    lab.loss(20)
    assert 700 < received(lab["a"], lab["b"], 1000, segment=segment) < 900
    lab.loss(0)
    assert received(lab["a"], lab["b"], 1000, segment=segment) == 1000


def test_faults_of_one_host_leave_the_others_alone(lab: Lab) -> None:
    lab.faults("drop", hosts=["b"])
    assert first_replies([(lab["a"], lab["c"].address4)], 1)
    assert not first_replies([(lab["a"], lab["b"].address4)], 0.3)


def test_a_ping_stream_sees_an_outage(lab: Lab) -> None:
    with PingStream(lab["a"], lab["b"].address6, 0.01) as stream:
        time.sleep(0.3)
        lab.faults("drop")
        time.sleep(0.4)
        lab.faults("")
        healed = time.monotonic()
        time.sleep(0.3)
    assert 20 <= stream.lost() <= 60
    assert stream.recovery(healed) < 0.2
    assert 0.3 < stream.longest_gap() < 0.7
    assert stream.round_trips()[0] < 0.01


def test_addresses_are_replaced(lab: Lab) -> None:
    lab["b"].set_addresses("10.99.0.77", "fd99::77")
    assert len(first_replies([(lab["a"], "10.99.0.77"), (lab["a"], "fd99::77")], 2)) == 2
    assert not first_replies([(lab["a"], "10.99.0.2")], 0.2)


def test_capture(lab: Lab) -> None:
    with lab.capture("b") as frames:
        received(lab["a"], lab["b"], 10)
        time.sleep(0.1)
    assert sum(bytes(1000) in frame for frame in frames) == 10


def test_a_failing_command_says_why(lab: Lab) -> None:
    with pytest.raises(LabError, match="does not exist"):
        lab["a"].ip("link", "show", "dev", "none")


def test_nothing_is_left_behind() -> None:
    lab = Lab(["a"])
    host = lab["a"]
    sleeper = host.popen("sleep", "100", stdout=subprocess.DEVNULL)
    while sleeper.pid not in host.processes():
        time.sleep(0.01)
    lab.close()
    assert sleeper.wait(5) != 0
    assert not Path(f"/proc/{host.pid}").exists()


def test_nothing_is_left_behind_when_the_tests_are_killed() -> None:
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from tests.system.lab import Lab\n"
        "lab = Lab(['a'])\n"
        "pid = lab['a'].popen('sleep', '100', stdout=None).pid\n"
        "while not Path(f'/proc/{pid}/comm').read_text().startswith('sleep'):\n"
        "    time.sleep(0.001)\n"  # only now it is bound to its parent
        "print(lab.hub.pid, lab['a'].pid, pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 3
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_this_is_root_of_its_namespaces() -> None:
    assert os.geteuid() == 0
