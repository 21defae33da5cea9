"""What the tests of all roles share: the plugin, its options, its hooks, and how it is imported."""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, get_args

import msgspec
import pytest
import tomli

from tunmesh import hookspecs
from tunmesh.config.convert import Converter
from tunmesh.config.problems import Origin
from tunmesh.config.render import PluginTable, example
from tunmesh.interfaces.checks import Finding, HostView, Level
from tunmesh.interfaces.events import NodeInfo, PeerInfo
from tunmesh.interfaces.registration import Registration
from tunmesh.loader.discovery import discover
from tunmesh.loader.manager import PluginHost
from tunmesh.loader.validation import HOOKS, ROLES, Role, check_registrations
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import Stage, staged

_KIT = __name__.rpartition(".")[0]

#: Seconds of processor time that the import of a plugin's module may take, besides what
#: ``tunmesh.plugin`` imports anyway; ``tunmesh --help`` imports every plugin that is selected.
IMPORT_SECONDS = 0.15
#: Modules that take long to import, and so belong into the functions that need them.
HEAVY = (
    "aiohttp",
    "cryptography",
    "httpx",
    "jwt",
    "nacl",
    "numpy",
    "pyroute2",
    "requests",
    "rich",
    "scapy",
    "trio",
)

_IMPORT = """
import sys, time
import tunmesh.plugin
before = set(sys.modules)
start = time.process_time()
__import__(sys.argv[1])
print(time.process_time() - start)
print(*sorted(set(sys.modules) - before))
"""

_NODE = NodeInfo("00" * 16, "node", "tun1", ("10.42.0.1/24", "fd42::1/64"))
_PEER = PeerInfo("11" * 16, "peer", ("10.42.0.2", "fd42::2"))


class Conformance:
    """Base of the kit's classes."""

    pytestmark: ClassVar[Any] = pytest.mark.anyio

    #: The plugin: its name if it is installed, or the module (or object) that holds its hooks.
    plugin: object = ""
    #: Which role of the plugin is meant.
    role: ClassVar[Role]
    #: Seconds that anything may take which is not the plugin's to decide.
    patience: float = 5.0

    def __init_subclass__(cls) -> None:
        """Refuse what would hide a test of the kit.

        Raises:
            TypeError: A test is overridden, and not marked as expected to fail with a reason.
        """
        if cls.__module__.startswith(_KIT):
            return
        for name, value in vars(cls).items():
            if not name.startswith("test_") or not _is_of_the_kit(cls, name):
                continue
            marks = getattr(value, "pytestmark", [])
            if not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks):
                raise TypeError(
                    f"{cls.__name__} overrides {name} of the conformance kit: if the plugin cannot "
                    'pass it, mark it with @pytest.mark.xfail(reason="…")'
                )

    # What tests are made of

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.plugin if isinstance(self.plugin, str) else "plugin"

    def registration(self) -> Registration[Any, Any]:
        """What the plugin offers for the role."""
        hook, _ = ROLES[self.role]
        if isinstance(self.plugin, str):
            host = PluginHost()
            host.discover()
            host.load([self.plugin], explicit=True, fill=False)
            found = host.registrations_of(self.plugin).get(self.role)
        else:
            found = check_registrations(self.role, getattr(self.plugin, hook)())
        assert found is not None, f"{hook} offers nothing"
        return found

    def options(self, table: Mapping[str, Any]) -> Any:  # noqa: ANN401  # the plugin's own type
        """A table of the configuration as the plugin's options."""
        converter = Converter(Origin(), {})
        key = f"plugins.{self.name}"
        options = converter.table(self.registration().options, table, key)
        assert not converter.problems, [str(problem) for problem in converter.problems]
        return options

    def stage(self) -> AbstractAsyncContextManager[Stage]:
        """Where the plugin's objects live; it has to be empty at the end."""
        return staged(self.patience)

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A directory with a short path, as names of Unix sockets have to be short."""
        with tempfile.TemporaryDirectory(prefix="tunmesh-") as folder:
            yield Path(folder)

    # Tests

    @covers(*(hook for hook, _ in ROLES.values()))
    def test_registration_is_complete(self) -> None:
        """The registration has one line of summary, and is the same each time."""
        registration = self.registration()
        assert registration.summary.strip(), "the summary is empty"
        assert registration.summary.isprintable(), "the summary is not one line"
        assert self.registration().options is registration.options

    def test_options_have_defaults_and_cannot_be_changed(self) -> None:
        """Options are a frozen Struct that refuses unknown keys and has a default everywhere."""
        options = self.registration().options
        assert issubclass(options, msgspec.Struct)
        config = options.__struct_config__
        assert config.frozen, f"{options.__name__} is not frozen"
        assert config.forbid_unknown_fields, f"{options.__name__} takes unknown keys"
        assert options() == options()
        assert options.__doc__, f"{options.__name__} has no docstring: it heads the table"

    def test_options_survive_the_example_configuration(self) -> None:
        """What ``tunmesh config example`` prints for the plugin is read as the defaults again."""
        registration = self.registration()
        table = PluginTable(self.name, registration.summary, (registration.options(),))
        text = example([self.name], [table])
        document = tomli.loads(text)["plugins"].get(self.name, {})
        assert self.options(document) == registration.options()

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt key is a problem that names it."""
        converter = Converter(Origin(), {})
        converter.table(self.registration().options, {"nonesuch_key": 1}, "plugins.it")
        assert [problem.key for problem in converter.problems] == ["plugins.it.nonesuch_key"]

    def test_import_is_quick_and_light(self) -> None:
        """The module imports in less than `IMPORT_SECONDS`, and nothing of `HEAVY`."""
        module = self._module()
        seconds, modules = self._imported(module)
        heavy = sorted(set(HEAVY) & modules)
        assert not heavy, f"{module} imports {heavy}: do that in the factory"
        for _ in range(2):  # a busy machine is no fault of the plugin
            if seconds >= IMPORT_SECONDS:
                seconds = min(seconds, self._imported(module)[0])
        assert seconds < IMPORT_SECONDS, f"the import of {module} took {seconds:.3f} s"

    def _module(self) -> str:
        if isinstance(self.plugin, str):
            return discover()[self.plugin][0].entry_point.module
        named = self.plugin if inspect.ismodule(self.plugin) else type(self.plugin)
        return str(getattr(named, "__module__", "") or named.__name__)

    @staticmethod
    def _imported(module: str) -> tuple[float, set[str]]:
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{_IMPORT}"]
        done = subprocess.run(  # noqa: S603  # our own interpreter
            [*command, module], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{module} cannot be imported: {done.stderr}"
        seconds, names = done.stdout.splitlines()[-2:]
        return float(seconds), set(names.split())

    @covers(*HOOKS)
    def test_hooks_take_what_they_are_told(self) -> None:
        """Each hook that the plugin has can be called, more than once, and raises nothing."""
        plugin = self._object()
        host = HostView(options=self.registration().options())
        told: dict[str, Any] = {"node": _NODE, "peer": _PEER, "reason": "timed out", "host": host}
        for name in HOOKS:
            function = getattr(plugin, name, None)
            if function is None:
                continue
            wanted = inspect.signature(getattr(hookspecs, name)).parameters
            taken = inspect.signature(function).parameters
            assert taken.keys() <= wanted.keys(), f"{name} takes {list(taken)}"
            for _ in range(2):
                told["subparsers"] = argparse.ArgumentParser().add_subparsers()
                returned = function(**{argument: told[argument] for argument in taken})
                if name == "tunmesh_checks":
                    _check_findings(returned)

    def _object(self) -> object:
        if isinstance(self.plugin, str):
            return discover()[self.plugin][0].entry_point.load()
        return self.plugin


def _check_findings(returned: Iterable[object]) -> None:
    for finding in returned:
        assert isinstance(finding, Finding), f"tunmesh_checks told {finding!r}, no Finding"
        assert finding.level in get_args(Level), f"a finding is {finding.level!r}"
        for text in (finding.check, finding.text, finding.mend):
            assert text.isprintable(), f"a finding is not one line: {text!r}"


def _is_of_the_kit(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__[1:] if base.__module__.startswith(_KIT))
