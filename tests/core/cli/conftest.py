"""Commands run in this process, without a configuration of this host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tunmesh.cli import main
from tunmesh.config import load as load_module
from tunmesh.plugin import GROUP


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]

SOURCE = """
from typing import Annotated
import msgspec
from tunmesh.plugin import TransportRegistration, TunRegistration, hookimpl

class Options(msgspec.Struct, frozen=True):
    volume: Annotated[int, msgspec.Meta(ge=0, le=11, description="how loud")] = 5
    password: Annotated[str, msgspec.Meta(extra={"secret": True})] = ""

@hookimpl
def tunmesh_transports():
    return [TransportRegistration(summary="shouts", factory=object, options=Options)]

@hookimpl
def tunmesh_tun_backends():
    return [TunRegistration(summary="ears", factory=object)]

@hookimpl
def tunmesh_add_commands(subparsers):
    parser = subparsers.add_parser("shout")
    parser.add_argument("word")
    parser.set_defaults(handler=lambda args: print(args.word.upper()) or 0)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: ``run("config", "show")``."""
    for name in ("TUNMESH_CONFIG", "TUNMESH_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(load_module, "DEFAULT_PATH", str(tmp_path / "absent.toml"))

    def run(*arguments: str) -> Outcome:
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def shouter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed plugin `shouter`, a transport and a TUN backend with a command; and `broken`."""
    site = tmp_path / "site"
    info = site / "shouter-3.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouter\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nshouter = fixture_shouter\nbroken = fixture_broken\n"
    )
    (site / "fixture_shouter.py").write_text(SOURCE)
    (site / "fixture_broken.py").write_text("raise OSError('no luck')\n")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("fixture_shouter", None)
