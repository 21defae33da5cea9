"""Nodes that run from wheels, as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.packaging.installation import Installation
from tests.system.node import PATIENCE, toml
from tunmesh.admin.client import ask
from tunmesh.errors import AdminError


class Node:
    """A node that runs from wheels, without privileges.

    Args:
        number: 1 or 2.
        directory: For its files.
        plugins: Their names.
        options: Of its plugins, besides the defaults.
        urls: By which it joins.
    """

    def __init__(
        self,
        number: int,
        directory: Path,
        plugins: Iterable[str],
        options: Mapping[str, Any],
        *urls: str,
    ) -> None:
        self.directory = directory / str(number)
        self.directory.mkdir(mode=0o700)
        self.socket = self.directory / "admin.sock"
        (self.directory / "addresses.txt").write_text(f"10.42.0.{number}/24\nfd42::{number}/64\n")
        tables = {
            "mesh": {"networks": ["10.42.0.0/16", "fd42::/48"]},
            "node": {"name": f"node-{number}"},
            "plugins": {"enabled": [*plugins], **options},
            "bootstrap": {"seeds": {"urls": list(urls)}},
            "admin": {"socket": str(self.socket)},
        }
        (self.directory / "node.toml").write_text(toml(tables))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.socket, "status", timeout=5.0)
        return status

    @contextmanager
    def running(self, installation: Installation) -> Iterator[None]:
        command = [str(installation.folder / "bin" / "tunmesh"), "run", "-c", "node.toml"]
        log = self.directory / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, cwd=self.directory, stderr=output, env=installation.environ
            ) as process,
        ):
            try:
                yield
            except BaseException as error:
                error.add_note(log.read_text())
                raise
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(5 * PATIENCE)
        assert code == 0, log.read_text()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15 * PATIENCE
    while True:
        try:
            if condition():
                return
        except AdminError:  # not yet there
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def replies(node: Node) -> set[str]:
    """The addresses of which the node's device logged an answer."""
    lines = (node.directory / "log").read_text().splitlines()
    return {
        word.removeprefix("address=")
        for line in lines
        if "pong" in line
        for word in line.split()
        if word.startswith("address=")
    }
