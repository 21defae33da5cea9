"""``tunmesh run``, as a process, with plugins that are broken in each way there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

SECRET = "a secret of the mesh in tests, 0123456789"

HEAD = """
import os
with open(os.environ["IMPORTED"], "a") as file:
    file.write(__name__ + "\\n")
from tunmesh.plugin import *
from tunmesh.plugin import hookimpl
"""
GOOD = """
from tunmesh.testing import MemoryNetwork, MemoryTransport, MemoryTun
from tunmesh.testing.faults import Faults

@hookimpl
def tunmesh_tun_backends():
    return [TunRegistration(summary="in memory", factory=lambda _: MemoryTun())]

@hookimpl
def tunmesh_transports():
    network = MemoryNetwork(faults=Faults(delay=0.0))
    def build(context):
        return MemoryTransport(context, network, "memory://here:1")
    return [TransportRegistration(summary="in memory", factory=build)]
"""
POLICY = """
class Policy(RoutingPolicy):
    def __init__(self, context):
        self.context = context
{methods}

@hookimpl
def tunmesh_routing_policies():
    return [PolicyRegistration(summary="broken", factory=Policy)]
"""
SENDING = """
from tunmesh.testing import MemoryNetwork, MemoryTransport
from tunmesh.testing.faults import Faults

class Sending(MemoryTransport):
    def send(self, *_):
        raise KeyError("a datagram of it")

@hookimpl
def tunmesh_transports():
    network = MemoryNetwork(faults=Faults(delay=0.0))
    def build(context):
        return Sending(context, network, "raising://here:1")
    return [TransportRegistration(summary="raises", factory=build)]
"""
SOURCES = {
    "good": GOOD,
    "unimportable": "import nothing_of_that_name",
    "asserting": "assert 1 == 2, 'one is not two'",
    "exiting": "import sys\nsys.exit(3)",
    "misspelt": "@hookimpl\ndef tunmesh_peer_upp(peer): pass",
    "asynchronous": "@hookimpl\nasync def tunmesh_peer_up(peer): pass",
    "outdated": "",
    "twice": "",
    "unopenable": POLICY.format(
        methods="    async def __aenter__(self):\n        raise KeyError('a defect')"
    ),
    "absent": POLICY.format(methods="    async def __aenter__(self):\n        pass"),
    "unleavable": POLICY.format(
        methods="    async def __aexit__(self, *_):\n        raise KeyError('a defect')"
    ),
    "raising": POLICY.format(
        methods="    def routes(self):\n        raise KeyError('a defect')\n"
        "    async def __aenter__(self):\n        self.context.start_soon(self.work)\n"
        "        return self\n"
        "    async def work(self):\n        raise KeyError('a task of it')\n"
    ),
    "reading": POLICY.format(
        methods="    async def __aenter__(self):\n"
        "        self.context.reactor.watch(os.eventfd(1), self.read)\n        return self\n"
        "    def read(self):\n        raise KeyError('a reader of it')\n"
    ),
    "sending": SENDING,
    "talking": POLICY.format(methods="    def routes(self):\n        return ['nonsense']"),
    "blocking": "import time\n@hookimpl\ndef tunmesh_node_started(node):\n    time.sleep(1.5)",
    "hooked": "@hookimpl\ndef tunmesh_node_started(node):\n    raise KeyError('a hook of it')",
}

#: What is said of a plugin that cannot be loaded.
VERDICTS = {
    "unimportable": "import failed: ModuleNotFoundError: No module named 'nothing_of_that_name'",
    "asserting": "import failed: AssertionError: one is not two",
    "exiting": "import failed: it ended the program (sys.exit)",
    "misspelt": "unknown hook tunmesh_peer_upp, did you mean tunmesh_peer_up?",
    "asynchronous": "tunmesh_peer_up is async: hooks are ordinary functions, ",
    "outdated": "written for tunmesh.plugins.v0, but tunmesh ",
    "twice": "dist-twice 1.0 and dist-twice-more 1.0 both offer it: uninstall one",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with all of them, each in a distribution of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, source in SOURCES.items():
        (folder / f"broken_{name}.py").write_text(HEAD + source)
        for more in ("", "-more") if name == "twice" else ("",):
            info = folder / f"dist_{name}{more.replace('-', '_')}-1.0.dist-info"
            info.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: dist-{name}{more}\nVersion: 1.0\n"
            (info / "METADATA").write_text(metadata)
            group = f"tunmesh.plugins.v{0 if name == 'outdated' else 1}"
            (info / "entry_points.txt").write_text(f"[{group}]\n{name} = broken_{name}\n")
    return folder


class Program:
    """``tunmesh run`` with some plugins."""

    def __init__(self, site: Path, *plugins: str) -> None:
        self.imports = site.parent / "imported"
        self.imports.touch()
        socket = site.parent / "node.sock"
        environ = {
            **os.environ,
            "PYTHONPATH": str(site),
            "TUNMESH_SECRET": SECRET,
            "IMPORTED": str(self.imports),
        }
        command = [sys.executable, "-m", "tunmesh", "run", "--plugins", ",".join(plugins)]
        command += ["--set", f'admin.socket="{socket}"', "--set", 'mesh.networks=["10.42.0.0/16"]']
        command += ["--set", 'bootstrap.seeds.urls=["raising://there:1"]']
        command += ["--set", 'node.addresses=["10.42.0.1/24"]']
        self.process = subprocess.Popen(
            command, env=environ, stderr=subprocess.PIPE, text=True, cwd=site.parent
        )
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def until(self, *texts: str) -> None:
        """Read what it says until all of this was said."""
        assert self.process.stderr is not None
        while not all(any(text in line for line in self.lines) for text in texts):
            line = self.process.stderr.readline()
            assert line, f"it ended without {texts}: {self.lines}"
            self.lines.append(line.rstrip("\n"))

    def end(self) -> int:
        """Its exit code, when it has ended by itself."""
        _, rest = self.process.communicate(timeout=15)
        self.lines += rest.splitlines()
        return self.process.returncode

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def imported(self) -> list[str]:
        return self.imports.read_text().split()


def test_what_is_installed_and_not_selected_is_not_imported(site: Path) -> None:
    with Program(site, "good") as program:
        program.until("node up")
        assert program.stop() == 0
        assert program.imported() == ["broken_good"]


def test_each_plugin_that_cannot_be_loaded_has_its_line(site: Path) -> None:
    with Program(site, "good", *VERDICTS) as program:
        assert program.end() == 2
        refusals = [line for line in program.lines if "plugin " in line]
        assert len(refusals) == len(VERDICTS), program.lines
        for (name, verdict), line in zip(VERDICTS.items(), refusals, strict=True):
            assert f"plugin {name}" in line
            assert verdict in line
        assert "Traceback" not in "\n".join(program.lines)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unopenable", "KeyError: 'a defect'"),
        ("absent", "TypeError: __aenter__ has to return the object itself, not None"),
    ],
)
def test_a_plugin_that_dies_while_it_opens_ends_the_start_with_its_name(
    site: Path, name: str, reason: str
) -> None:
    with Program(site, "good", name) as program:
        assert program.end() == 1
        assert program.lines[-1] == f"tunmesh: plugin {name}: {reason}"


def test_a_node_goes_on_with_plugins_that_fail_at_run_time(site: Path) -> None:
    names = ("raising", "reading", "sending", "talking", "blocking", "hooked", "unleavable")
    with Program(site, "good", *names) as program:
        program.until(
            "node up",
            "event loop held up plugin=blocking at=",
            "plugin hook failed plugin=hooked hook=tunmesh_node_started",
            "KeyError: 'a hook of it'",
            "plugin task failed plugin=raising",
            "reader failed plugin=reading",
            "plugin failed plugin=sending url=raising://there:1",
            "plugin failed plugin=raising error=\"KeyError: 'a defect'",
            'plugin failed plugin=talking error="TypeError: str instead of Route',
        )
        assert program.stop() == 0
        assert any("failed while it was closed plugin=unleavable" in line for line in program.lines)
