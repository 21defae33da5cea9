"""Runs the system tests in a user namespace when the test run itself is not root.

The other tests stay where they are, with the network that they have. One process runs all system
tests, and sends its reports to the test run, which shows them as its own. So none is skipped, and
each shows under its own name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

#: Tells the inner run which descriptor takes the reports.
_VARIABLE = "TUNMESH_TEST_REPORTS"


def needed() -> bool:
    """Whether this process lacks what the laboratory needs."""
    return os.geteuid() != 0


class Sender:
    """Plugin of the inner run: sends every report to the outer run."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        self._config = config
        self._pipe = os.fdopen(descriptor, "w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send one report as a line of JSON."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._pipe.write(json.dumps(data) + "\n")
        self._pipe.flush()

    def pytest_unconfigure(self) -> None:
        """Close the pipe."""
        self._pipe.close()


def register_sender(config: pytest.Config) -> None:
    """Send reports, if this is the inner run."""
    descriptor = os.environ.pop(_VARIABLE, "")
    if descriptor:
        config.pluginmanager.register(Sender(config, int(descriptor)))


class Delegation:
    """The inner run, seen from the outer one."""

    def __init__(self, config: pytest.Config, node_ids: list[str]) -> None:
        self._config = config
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # see close
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--net", "--"),
                *(sys.executable, "-m", "pytest", *node_ids),
            ],
            cwd=config.rootpath,
            env={**os.environ, _VARIABLE: str(writer)},
            pass_fds=[writer],
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        os.close(writer)
        self._pipe = os.fdopen(reader)
        self._reports = self._read()

    def _read(self) -> Iterator[pytest.TestReport]:
        for line in self._pipe:
            data: dict[str, Any] = json.loads(line)
            report = self._config.hook.pytest_report_from_serializable(
                config=self._config, data=data
            )
            assert isinstance(report, pytest.TestReport)
            yield report

    def run(self, item: pytest.Item) -> None:
        """Show the reports of one test as they come."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports:
            item.ihook.pytest_runtest_logreport(report=report)
            if report.when == "teardown":
                break
        else:
            item.ihook.pytest_runtest_logreport(report=self._lost(item))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _lost(self, item: pytest.Item) -> pytest.TestReport:
        """The report of a test of which the inner run sent none."""
        self._process.wait()
        self._output.seek(0)
        text = self._output.read()[-4000:].decode(errors="replace")
        message = f"the run in a user namespace ended early:\n{text}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call")

    def close(self) -> None:
        """End the inner run, if it has not ended."""
        self._process.terminate()
        self._process.wait()
        self._pipe.close()
        self._output.close()


_delegation = pytest.StashKey[Delegation]()


def run_protocol(item: pytest.Item, directory: Path) -> None:
    """Run one test in the user namespace; the first call starts the run there."""
    session = item.session
    if _delegation not in session.stash:
        ids = [other.nodeid for other in session.items if directory in other.path.parents]
        session.stash[_delegation] = Delegation(item.config, ids)
        item.config.add_cleanup(session.stash[_delegation].close)
    session.stash[_delegation].run(item)
