"""Programs that know nothing of tunmesh: mDNS by avahi, a stream by iperf 2."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.conftest import MeshFactory
from tests.system.groups import DEVICE, IGMP, group_of, meshed
from tests.system.lab import eventually
from tests.system.node import Mesh, Node, merged

DBUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_type="method_call"/>
    <allow send_destination="*" eavesdrop="true"/> <allow receive_sender="*"/>
  </policy>
</busconfig>
"""
AVAHI = """[server]
host-name=host-{name}
allow-interfaces={device}
allow-point-to-point=yes
use-ipv4={ipv4}
use-ipv6={ipv6}
[wide-area]
enable-wide-area=no
"""
START = """mount -t tmpfs none /run && mkdir -p /run/dbus /run/avahi-daemon
dbus-daemon --config-file={directory}/dbus.conf --nofork --nopidfile &
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.02; done
exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --file={directory}/avahi.conf
"""


class Avahi:
    """The mDNS responder of a node's host, with a bus and a ``/run`` of its own."""

    def __init__(self, node: Node, version: int, programs: ExitStack) -> None:
        directory = node.directory
        (directory / "dbus.conf").write_text(DBUS)
        uses = {"ipv4": "yes" if version == 4 else "no", "ipv6": "yes" if version == 6 else "no"}
        (directory / "avahi.conf").write_text(AVAHI.format(name=node.name, device=DEVICE, **uses))
        self._log = directory / "avahi.log"
        with self._log.open("wb") as log:
            self._process = node.host.popen(
                *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
                START.format(directory=directory),
                stdout=log,
                stderr=log,
            )
        self._node = node
        self._programs = programs
        programs.callback(self._stop, self._process)

    def ready(self) -> bool:
        """Whether it has announced its host."""
        assert self._process.poll() is None, self._log.read_text()
        return "startup complete" in self._log.read_text()

    def command(self, *command: str) -> list[str]:
        """A command line that runs beside it."""
        inside = ("nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", "--", *command)
        return self._node.host.command(*inside)

    def run(self, *command: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout + done.stderr

    def publish(self, name: str, kind: str, port: int) -> None:
        """Offer a service as long as the test runs."""
        command = self.command("avahi-publish", "-s", name, kind, str(port))
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._programs.callback(self._stop, process)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def link_local(mesh: Mesh, name: str, *, known: bool) -> None:
    """Give a node a link-local address that the mesh knows, and no other one."""
    host = mesh.lab.hosts.get(name) or mesh.lab.add_host(name)
    host.sysctl("net/ipv6/conf/default/addr_gen_mode", "1")
    own = [f"fe80::{host.number:x}/64"] if known else []
    addresses = [f"10.42.1.{host.number}/24", f"fd42:0:0:1::{host.number:x}/64", *own]
    options = merged(IGMP, {"node": {"addresses": addresses}})
    mesh.add(name, [mesh.lab["a"].url()], options=options)


@pytest.mark.parametrize("version", [4, 6])
def test_mdns_finds_hosts_and_services(
    meshes: MeshFactory, programs: ExitStack, program: Callable[[str], str], version: int
) -> None:
    for name in ("avahi-daemon", "avahi-browse", "dbus-daemon"):
        program(name)
    mesh = meshes("a", "b", "c")
    for name in "abc":
        link_local(mesh, name, known=True)
    meshed(mesh)
    responders = {node.name: Avahi(node, version, programs) for node in mesh}
    for name, responder in responders.items():
        eventually(responder.ready, 20, f"avahi runs on {name}")
    group = "224.0.0.251" if version == 4 else "ff02::fb"
    eventually(
        lambda: group_of(mesh["a"], group).get("members") == ["b", "c"], 5, "all listen to mDNS"
    )
    responders["b"].publish("A Test", "_tunmesh._udp", 4242)
    overlay = mesh["b"].overlay[0 if version == 4 else 1]
    for name in "ac":
        began = time.monotonic()
        eventually(
            lambda name=name: (
                "host-b.local"
                in (  # type: ignore[misc]
                    found := responders[name].run("avahi-browse", "-rpt", "_tunmesh._udp")
                )
                and ";4242;" in found
            ),
            15,
            f"{name} finds the service",
        )
        found = responders[name].run("avahi-resolve-host-name", f"-{version}", "host-b.local")
        assert overlay in found or "fe80::2" in found, found
        print(f"IPv{version}: found on {name} in {time.monotonic() - began:.1f} s")  # noqa: T201


@pytest.mark.timeout(150)
def test_a_stream_reaches_its_members_for_a_minute(
    meshes: MeshFactory, programs: ExitStack, program: Callable[[str], str]
) -> None:
    iperf = program("iperf")
    mesh = meshes("a", "b", "c")
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()], options=IGMP)
    meshed(mesh)
    logs: dict[str, Path] = {}
    for name in "bc":
        logs[name] = mesh[name].directory / "iperf.log"
        with logs[name].open("wb") as log:
            process = mesh[name].host.popen(
                *(iperf, "-s", "-u", "-B", f"239.9.9.9%{DEVICE}", "-i", "60"),
                stdout=log,
                stderr=log,
            )
        programs.callback(process.wait)
        programs.callback(process.kill)
    eventually(lambda: group_of(mesh["a"], "239.9.9.9").get("members") == ["b", "c"], 5, "joined")
    mesh["a"].host.run(
        *(iperf, "-c", "239.9.9.9", "-u", "-T", "1", "-b", "2M", "-t", "60", "-l", "1316"),
        timeout=90,
    )
    sent = group_of(mesh["a"], "239.9.9.9")["packets"]
    time.sleep(1)
    for name, path in logs.items():
        text = path.read_text()
        outcome = re.findall(r"(\d+)/\s*(\d+) \(([0-9.e+-]+)%\)", text)
        assert outcome, text
        lost, total, _ = outcome[-1]
        print(json.dumps({"member": name, "lost": int(lost), "of": int(total), "sent": sent}))  # noqa: T201
        assert int(lost) == 0, text
        assert int(total) > 11_000
