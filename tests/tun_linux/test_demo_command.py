"""The whole demo, as a person starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from tunmesh_tun_linux.demo.namespaces import PREFIX

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]

RUN = Path("/var/run").resolve()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "tunmesh", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TUNMESH_CONFIG": os.devnull},
    )


def nodes() -> set[int]:
    """Processes of nodes of a demo."""
    return {
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if f"{RUN}/tunmesh-demo/node-".encode() in _read(entry)
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return b""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert not [name for name in netns.listnetns() if name.startswith(PREFIX)]
    assert not (RUN / "tunmesh-demo").exists()
    assert nodes() == set()


def wait_for_node(demo: subprocess.Popen[str]) -> None:
    """Wait until the first node has started."""
    deadline = time.monotonic() + 20
    while not (RUN / "tunmesh-demo/node-1.sock").exists():
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < deadline, "the first node did not start"
        time.sleep(0.02)


def test_the_whole_story() -> None:
    demo = start("--nodes", "2")
    out, err = demo.communicate(timeout=80)
    assert (demo.returncode, err) == (0, "")
    steps = [line.split()[1] for line in out.splitlines() if line.startswith(("ok ", "FAIL"))]
    shown = ["ping", "broadcast", "multicast", "throughput"]
    assert steps == ["network", "node-1", "mesh", *shown, "clean-up"]
    assert "1 of 1 pairs connected, aes256gcm over udp" in out or "chacha20poly1305" in out
    assert out.count("bit/s") == 4
    assert "link-local" in out
    assert "one copy at each other node" in out
    assert "no reply" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals) -> None:
    demo = start("--nodes", "2")
    wait_for_node(demo)
    demo.send_signal(number)
    demo.send_signal(number)  # an impatient person
    out, err = demo.communicate(timeout=15)
    assert demo.returncode == 130
    assert "ok   clean-up" in out
    assert err == "tunmesh demo: interrupted, and cleaned up\n"


def test_keep() -> None:
    demo = start("--nodes", "2", "--keep")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "stays up until Ctrl-C" in line:
            break
    assert len(nodes()) == 2
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=15)
    assert (demo.returncode, err) == (0, "")
    assert "ok   clean-up" in out


def test_nobody_reads_the_output_any_longer() -> None:
    demo = start("--nodes", "2")
    assert demo.stdout is not None
    demo.stdout.readline()
    demo.stdout.close()
    assert demo.stderr is not None
    assert "Traceback" not in demo.stderr.read()
    assert demo.wait(timeout=15) == 1
    demo.stderr.close()


def test_a_node_that_does_not_start() -> None:
    demo = start("--plugins", "tun_linux,nonsense")
    out, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "FAIL node-1" in out
    assert "ok   clean-up" in out
    assert "node-1 ended with exit code 2; it wrote last:" in err
    assert "nonsense" in err
    assert "Traceback" not in err


def test_what_a_killed_demo_left_behind_goes() -> None:
    demo = start("--nodes", "2")
    wait_for_node(demo)
    demo.kill()
    demo.communicate()
    assert PREFIX + "1" in netns.listnetns()
    deadline = time.monotonic() + 5
    while nodes():  # they end with the demo
        assert time.monotonic() < deadline, "nodes outlived the demo"
        time.sleep(0.02)
    next_one = start("--nodes", "2")
    wait_for_node(next_one)
    next_one.send_signal(signal.SIGINT)
    next_one.communicate(timeout=15)
    assert next_one.returncode == 130
