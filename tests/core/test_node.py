"""Whole nodes with plugins in memory, on both event loops."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.core.fakes import frame
from tests.core.node_plugins import JOURNALS, Journal
from tests.keymaterial import key_material, leaks
from tunmesh.admin.client import ask
from tunmesh.config import Config
from tunmesh.config.types import (
    AdminOptions,
    BootstrapOptions,
    MeshOptions,
    NodeOptions,
    PluginsOptions,
    Subnet,
)
from tunmesh.durations import Duration
from tunmesh.errors import TunmeshError
from tunmesh.loader.manager import PluginHost
from tunmesh.node import Node, run_command

pytestmark = pytest.mark.anyio

SECRET = b"a secret of the mesh in tests, 0123456789"
ROLES = ("tun", "address", "transport", "policy", "watcher")
ADDRESSES = {"one": "10.42.0.1", "two": "10.42.0.2"}


@pytest.fixture
def journal() -> Iterator[Journal]:
    found = Journal()
    JOURNALS.append(found)
    yield found
    JOURNALS.remove(found)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with one installed distribution, of all plugins in memory."""
    info = tmp_path / "site" / "memory_plugins-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-plugins\nVersion: 2.0\n")
    points = "".join(f"mem_{role} = tests.core.node_plugins:{role}\n" for role in ROLES)
    (info / "entry_points.txt").write_text(f"[tunmesh.plugins.v1]\n{points}")
    return info.parent


class Maker:
    """Makes nodes of the plugins in memory."""

    def __init__(self, site: Path, run: Path) -> None:
        self.site = site
        self.run = run
        self.hosts: list[PluginHost] = []

    def config(
        self, name: str, *, join: str = "", subnets: tuple[str, ...] = (), **tables: dict[str, Any]
    ) -> Config:
        bootstrap = {"seeds": BootstrapOptions((join,), interval=Duration("1h"))} if join else {}
        return Config(
            mesh=MeshOptions(networks=(ip_network("10.42.0.0/16"),)),
            node=NodeOptions(
                name=name,
                addresses=(f"{ADDRESSES[name]}/24",),
                subnets=tuple(Subnet(ip_network(prefix)) for prefix in subnets),
            ),
            plugins=PluginsOptions(tables={f"mem_{role}": table for role, table in tables.items()}),
            bootstrap=bootstrap,
            admin=AdminOptions(socket=str(self.run / "<device>.sock")),
        )

    def __call__(self, name: str, **changes: Any) -> Node:
        config = self.config(name, **changes)
        host = PluginHost(config, path=[str(self.site)])
        host.discover()
        host.load([f"mem_{role}" for role in ROLES], explicit=True)
        assert host.option_problems() == []
        self.hosts.append(host)
        return Node(config, host, [SECRET])


@pytest.fixture
def make(site: Path, tmp_path: Path, journal: Journal) -> Maker:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    return Maker(site, run)


@asynccontextmanager
async def running(journal: Journal, *nodes: Node) -> AsyncIterator[None]:
    """Nodes that have started, and are stopped in order."""
    async with anyio.create_task_group() as tasks:
        for number, node in enumerate(nodes, 1):
            tasks.start_soon(node.run)
            await journal.until(functools.partial(has_started, journal, number))
        yield
        for node in nodes:
            node.stop()


def has_started(journal: Journal, number: int) -> bool:
    return started(journal) == number


def started(journal: Journal) -> int:
    return sum("started on" in line for line in journal.lines)


def hooked(journal: Journal) -> list[str]:
    """What hooks were told; applying the configuration is none."""
    return [line for line in journal.lines if not line.endswith("applied")]


def met(journal: Journal) -> bool:
    """Whether both nodes were told that the other is up; its name they may not know yet."""
    return sum(line.endswith(" up") for line in journal.lines) == 2


# Life cycle


async def test_start_and_stop_in_order(make: Maker, journal: Journal) -> None:
    async with running(journal, make("one", address={"address": "10.42.0.7/24"})):
        (link,) = make.run.iterdir()
        assert link.name == "m-one.sock"
    lines = [line for line in journal.lines[3:] if line != "one: applied"]  # changes of routes
    assert [*journal.lines[:3], *lines] == [
        "one: tun opened",
        "one: address opened",
        "one: applied",
        "one: transport opened",
        "one: policy opened",
        "one: started on m-one with 10.42.0.1/24,10.42.0.7/24",
        "one: stopping",
        "one: policy closed",
        "one: transport closed",
        "one: address closed",
        "one: tun closed",
    ]
    assert list(make.run.iterdir()) == []


@pytest.mark.parametrize("role", ["tun", "address", "transport", "policy"])
@pytest.mark.parametrize(
    ("fails", "text"),
    [
        ("open", "no such thing here"),
        ("crash", "KeyError: 'a defect'"),
        ("make", "ValueError: cannot be made"),
    ],
)
async def test_a_plugin_that_fails_ends_the_start_with_one_line(
    make: Maker, journal: Journal, role: str, fails: str, text: str
) -> None:
    node = make("one", **{role: {"fails": fails}})
    with pytest.raises(TunmeshError) as raised:
        await node.run()
    assert str(raised.value).startswith(f"plugin mem_{role}: ")
    assert str(raised.value).endswith(text)
    assert "\n" not in str(raised.value)
    entry = make.hosts[0].entry(f"mem_{role}")
    assert (entry.state, text.rpartition(": ")[2] in (entry.error or "")) == ("failed", True)
    # What was opened before is closed.
    opened = [line.split()[1] for line in journal.lines if line.endswith("opened")]
    closed = [line.split()[1] for line in journal.lines if line.endswith("closed")]
    assert closed == opened[::-1] == ["policy", "transport", "address", "tun"][
        4 - ["tun", "address", "transport", "policy"].index(role) :
    ]  # fmt: skip
    assert started(journal) == 0


async def test_a_second_node_on_one_socket_fails(make: Maker, journal: Journal) -> None:
    async with running(journal, make("one")):
        with pytest.raises(TunmeshError, match="sock"):
            await make("one", transport={"host": "elsewhere"}).run()


async def test_a_plugin_that_fails_at_the_end_stops_no_other(
    make: Maker, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(journal, make("one", transport={"fails": "close"})):
        pass
    assert journal.lines[-3:] == [
        "one: transport closed",
        "one: address closed",
        "one: tun closed",
    ]
    assert "mem_transport" in caplog.text


async def test_a_lost_device_ends_the_node_with_an_error(make: Maker, journal: Journal) -> None:
    errors: list[TunmeshError] = []

    async def run() -> None:
        try:
            await make("one").run()
        except TunmeshError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await journal.until(lambda: started(journal) == 1)
        journal.devices["one"].context.device_lost("unplugged")
    assert [str(error) for error in errors] == ["device lost: unplugged"]
    assert journal.lines[-4:] == [
        "one: policy closed",
        "one: transport closed",
        "one: address closed",
        "one: tun closed",
    ]
    assert "one: stopping" in journal.lines


# Plugins at run time


async def test_a_task_of_a_plugin_that_raises_ends_alone(
    make: Maker, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(journal, make("one")):
        context = journal.contexts["one"]

        async def fail(what: str) -> None:
            raise ValueError(what)

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            journal.note("worked")

        context.start_soon(fail, "of this plugin")
        await anyio.wait_all_tasks_blocked()
        context.start_soon(work)
        await journal.until(lambda: "worked" in journal.lines)
        assert "plugin task failed plugin=mem_transport" in caplog.text
        assert "of this plugin" in caplog.text
    assert journal.lines[-1] == "one: tun closed"


async def test_other_threads_may_call(make: Maker, journal: Journal) -> None:
    async with running(journal, make("one")):
        loop = threading.get_ident()
        context = journal.contexts["one"]
        threads: list[int] = []

        def called(text: str) -> None:
            threads.append(threading.get_ident())
            journal.note(text)

        thread = threading.Thread(target=context.call_soon_threadsafe, args=(called, "hello"))
        thread.start()
        await journal.until(lambda: "hello" in journal.lines)
        await anyio.to_thread.run_sync(thread.join)
        assert threads == [loop]


async def test_the_clock_is_that_of_the_host(make: Maker, journal: Journal) -> None:
    async with running(journal, make("one")):
        context = journal.contexts["one"]
        assert abs(context.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
        assert context.node_name == "one"
        assert len(context.node_id) == 32


async def test_addresses_of_providers(make: Maker, journal: Journal) -> None:
    table = {"address": "10.42.0.1/16"}  # the same as the configured one, with another prefix
    async with running(journal, make("one", address=table)):
        device = journal.devices["one"]
        assert device.applied[0].addresses == (ip_interface("10.42.0.1/24"),)
        assert device.applied[0].networks == (ip_network("10.42.0.0/16"),)
        journal.providers["one"].context.set_addresses([ip_interface("10.42.0.9/24")])
        await journal.until(lambda: len(device.applied) == 2)
        assert set(device.applied[1].addresses) == {
            ip_interface("10.42.0.1/24"),
            ip_interface("10.42.0.9/24"),
        }


async def test_addresses_that_were_found_on_the_device_are_not_put_there(
    make: Maker, journal: Journal
) -> None:
    table = {"address": "10.42.0.9/24", "configures": False}
    async with running(journal, make("one", address=table)):
        assert journal.devices["one"].applied[0].addresses == (ip_interface("10.42.0.1/24"),)
        assert "one: started on m-one with 10.42.0.1/24,10.42.0.9/24" in journal.lines


# Two nodes


async def test_two_nodes_meet_and_part(make: Maker, journal: Journal) -> None:
    two = make("two", join="memory://one:4567", subnets=("192.168.7.0/24",))
    async with running(journal, make("one"), two):
        await journal.until(lambda: met(journal))
        device = journal.devices["one"]
        await journal.until(lambda: bool(device.applied[-1].routes))
        assert device.applied[-1].routes == (ip_network("192.168.7.0/24"),)
        two.stop()
        await journal.until(lambda: any(line.endswith("down: left") for line in journal.lines))
        await journal.until(lambda: not device.applied[-1].routes)


async def test_hooks_are_for_events_and_not_for_packets(make: Maker, journal: Journal) -> None:
    nodes = make("one"), make("two", join="memory://one:4567")
    async with running(journal, *nodes):
        await journal.until(lambda: met(journal))
        one, two = journal.devices["one"], journal.devices["two"]
        packets = [frame(ADDRESSES["one"], ADDRESSES["two"], b"%05d" % n) for n in range(10_000)]
        one.inject(packets[0])
        await journal.until(lambda: two.written == packets[:1])
        told = hooked(journal)
        called: list[str] = []
        for host in make.hosts:
            host._manager.add_hookcall_monitoring(
                lambda name, *_: called.append(name), lambda *_: None
            )
        for each in packets[1:]:
            one.inject(each)
        await journal.until(lambda: len(two.written) == 10_000)
        assert two.written == packets
        assert (called, hooked(journal)) == ([], told)


def more_failures(journal: Journal, than: int) -> bool:
    return journal.lines.count("apply failed") > than


@pytest.mark.parametrize(
    ("fails", "text"),
    [
        ("apply", "device configuration failed error=the host refused it"),
        ("apply wrongly", "KeyError: 'a defect'"),
    ],
)
async def test_a_host_that_refuses_its_configuration_is_asked_again(
    make: Maker, journal: Journal, caplog: pytest.LogCaptureFixture, fails: str, text: str
) -> None:
    one = make("one", tun={"fails": fails})
    async with running(journal, one, make("two", join="memory://one:4567")):
        await journal.until(lambda: met(journal))
        for address in ("10.42.0.8/24", "10.42.0.9/24"):
            failures = journal.lines.count("apply failed")
            journal.providers["one"].context.set_addresses([ip_interface(address)])
            await journal.until(functools.partial(more_failures, journal, failures))
        assert text in caplog.text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory://nowhere:1", "bootstrap url failed url=memory://nowhere:1"),
        ("memory://defect:1", "plugin failed plugin=mem_transport url=memory://defect:1"),
    ],
)
async def test_a_url_that_leads_nowhere(
    make: Maker, journal: Journal, caplog: pytest.LogCaptureFixture, url: str, text: str
) -> None:
    async with running(journal, make("one", join=url)):
        await anyio.wait_all_tasks_blocked()
        assert text in caplog.text
    assert journal.lines[-1] == "one: tun closed"


# The admin socket


async def test_status_and_stop_through_the_socket(make: Maker, journal: Journal) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make("one").run)
        await journal.until(lambda: started(journal) == 1)
        path = make.run / "m-one.sock"
        status = await anyio.to_thread.run_sync(ask, path, "status")
        assert status["mesh"]["name"] == "tunmesh"
        assert (status["node"]["name"], status["node"]["healthy"]) == ("one", True)
        assert status["node"]["endpoints"] == ["memory://one:4567"]
        assert (status["device"]["name"], status["device"]["backend"]) == ("m-one", "mem_tun")
        assert {plugin["name"]: plugin["version"] for plugin in status["plugins"]} == {
            f"mem_{role}": "2.0" for role in ROLES
        }
        assert set(status["transports"]) == {"mem_transport"}
        await anyio.to_thread.run_sync(ask, path, "stop")
    assert journal.lines[-1] == "one: tun closed"


# The command


def arguments(make: Maker, **plugins: dict[str, str]) -> argparse.Namespace:
    names = ", ".join(f'"mem_{role}"' for role in ROLES)
    tables = "".join(
        f"[plugins.mem_{role}]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items())
        for role, table in plugins.items()
    )
    config = make.run / "tunmesh.toml"
    config.write_text(
        f"""
[mesh]
networks = ["10.42.0.0/16"]
secret = "{SECRET.decode()}"
[node]
name = "one"
addresses = ["10.42.0.1/24"]
[plugins]
enabled = [{names}]
{tables}
[admin]
socket = "{make.run}/one.sock"
"""
    )
    config.chmod(0o600)
    return argparse.Namespace(config=str(config), set=[], plugins=None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_with_a_signal(
    make: Maker, journal: Journal, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.syspath_prepend(make.site)

    def note(line: str = "") -> None:
        journal.lines.append(line)
        if "started" in line:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(journal, "note", note)
    assert run_command(arguments(make)) == 0
    assert journal.lines[-1] == "one: tun closed"


def test_the_command_fails_with_one_line(
    make: Maker, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make.site)
    with pytest.raises(TunmeshError) as raised:
        run_command(arguments(make, tun={"fails": "open"}))
    assert str(raised.value) == "plugin mem_tun: no such thing here"
    with pytest.raises(TunmeshError, match="nonsense"):
        run_command(arguments(make, tun={"nonsense": "1"}))


def test_the_service_manager_is_told(
    make: Maker, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(5)
    manager.bind(address)
    monkeypatch.syspath_prepend(make.site)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    told: list[bytes] = []

    def listen() -> None:
        while not told or not told[-1].startswith(b"STOPPING=1"):
            told.append(manager.recv(4096))
            if told[-1].startswith(b"WATCHDOG=1"):
                os.kill(os.getpid(), signal.SIGTERM)

    listener = threading.Thread(target=listen)
    listener.start()
    assert run_command(arguments(make)) == 0
    listener.join()
    manager.close()
    assert "NOTIFY_SOCKET" not in os.environ
    assert told[0] == b"READY=1\nSTATUS=device m-one, 0 peers up"
    assert told[1] == b"WATCHDOG=1"
    assert told[-1] == b"STOPPING=1\nSTATUS=stopping"
    assert "one: started on m-one with 10.42.0.1/24" in journal.lines


async def test_no_key_is_logged(
    make: Maker, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nodes = make("one"), make("two", join="memory://one:4567")
    async with running(journal, *nodes):
        await journal.until(lambda: met(journal))
        one, two = journal.devices["one"], journal.devices["two"]
        one.inject(frame(ADDRESSES["one"], ADDRESSES["two"], b"a payload that is private"))
        await journal.until(lambda: bool(two.written))
        journal.network.send("memory://one:4567", "memory://two:4567", b"\1garbage" * 20)
        keys = key_material(node.mesh for node in nodes)
    assert len(keys) > 6, "those of the mesh, of the nodes and of their sessions"
    keys |= {SECRET, b"a payload that is private"}
    assert "peer up" in caplog.text
    assert leaks(caplog.text, keys) == []
