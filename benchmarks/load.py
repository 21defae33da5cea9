"""Traffic through a tunnel: pings of several kinds, and iperf3."""

from __future__ import annotations

import contextlib
import json
import re
import select
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import BenchmarkError
from benchmarks.testbed import READY_TIMEOUT, Node, Testbed

PORT = 5201
QUIET = 0.3  # seconds for queues to drain after a load
PATIENCE = 15.0  # seconds that a load may take beyond its length


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process, and end it afterwards."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def line_with(process: subprocess.Popen[bytes], words: bytes, deadline: float) -> bool:
    """Read what a process prints until a line holds `words`; False if it ends or time is up."""
    assert process.stdout is not None
    while (remaining := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], remaining)[0]:
            return False
        line = process.stdout.readline()
        if words in line:
            return True
        if not line:
            return False
    return False


def wait_for_reply(node: Node, address: str) -> None:
    """Ping `address` until it answers."""
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        # It ends at once as long as there is no route, hence the loop.
        with ended(node.popen("ping", "-n", "-i", "0.01", "-w", "20", address)) as ping:
            if line_with(ping, b"bytes from", deadline):
                return
        time.sleep(0.005)
    raise BenchmarkError(f"no reply to a ping in {READY_TIMEOUT:.0f} s: {node.log()}")


def mean_rtt_us(node: Node, address: str, *options: str) -> float:
    """Return ping's average round-trip time."""
    text = node.run("ping", "-n", "-q", "-W", "1", *options, address)
    found = re.search(r"rtt min/avg/max/mdev = [\d.]+/([\d.]+)/", text)
    if found is None:
        raise BenchmarkError("ping got no reply")
    return float(found[1]) * 1000


@dataclass(frozen=True)
class Load:
    """What one run of iperf3 delivered.

    Attributes:
        bits_per_second: The rate at which data arrived.
        arrived: How many bytes arrived.
        cpu_s: Processor time of the tunnel's nodes meanwhile.
    """

    bits_per_second: float
    arrived: int
    cpu_s: float


@contextlib.contextmanager
def iperf_client(
    bed: Testbed, address: str, seconds: int, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Give a running iperf3 client of the first node, whose server runs in the second."""
    first, second = bed.nodes[:2]
    server_command = ("iperf3", "--server", "--one-off", "--port", str(PORT), "--forceflush")
    client_command = ("iperf3", "--client", address, "--port", str(PORT), "--json")
    with ended(second.popen(*server_command)) as server:
        if not line_with(server, b"listening", time.monotonic() + PATIENCE):
            raise BenchmarkError("the iperf3 server did not start")
        with ended(first.popen(*client_command, "--time", seconds, *options)) as client:
            yield client
    time.sleep(QUIET)


def finish(client: subprocess.Popen[bytes], seconds: int) -> dict[str, Any]:
    """Wait for an iperf3 client and return the end of its result."""
    try:
        text = client.communicate(timeout=seconds + PATIENCE)[0]
        result: dict[str, Any] = json.loads(text)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError("iperf3 did not finish in time") from error
    except ValueError as error:
        raise BenchmarkError("iperf3 printed no result") from error
    if "error" in result:
        raise BenchmarkError(f"iperf3: {result['error']}")
    end: dict[str, Any] = result["end"]
    return end


def load(bed: Testbed, address: str, seconds: int, *options: str) -> Load:
    """Send as much as the tunnel takes from the first node to the second."""
    before = bed.cpu_seconds()
    with iperf_client(bed, address, seconds, *options) as client:
        received = finish(client, seconds)["sum_received"]
        # A UDP receiver reports its own, longer, time; TCP's is that of the sender.
        rate = received["bytes"] * 8 / received["seconds"]
        return Load(rate, received["bytes"], bed.cpu_seconds() - before)


def loaded_rtt_ms(bed: Testbed, address: str, seconds: int, *options: str) -> float:
    """Return the median round-trip time of small packets while one TCP stream fills the tunnel."""
    with iperf_client(bed, address, seconds + 1, *options) as client:
        time.sleep(0.5)  # the stream is up to speed
        count = str(seconds * 50)
        text = bed.nodes[0].run("ping", "-n", "-i", "0.02", "-c", count, "-W", "1", address)
        finish(client, seconds + 1)
    return statistics.median(float(time_ms) for time_ms in re.findall(r"time=([\d.]+) ms", text))
