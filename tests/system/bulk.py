"""Bulk TCP flows between two hosts, in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.lab import Namespace

_PROGRAM = Path(__file__).with_name("transfer.py")
_ports = itertools.count(7000)


@dataclass
class Outcome:
    """What one end of a flow saw."""

    bytes: int
    sha256: str
    seconds: float


def _outcome(process: subprocess.Popen[bytes], timeout: float) -> Outcome:
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors.decode()
    fields: dict[str, Any] = json.loads(output.splitlines()[-1])
    return Outcome(**fields)


@contextlib.contextmanager
def flow(
    source: Namespace,
    target: Namespace,
    address: str,
    *,
    size: int = 0,
    seconds: float = 0,
    abandon: bool = False,
    timeout: float = 60.0,
) -> Iterator[list[Outcome]]:
    """Send bytes while the block runs; in the end the list holds what sender and receiver saw.

    Args:
        source: Where they come from.
        target: Where they go to.
        address: Of the target.
        size: How many, if not for some time.
        seconds: For how long, if not a number of bytes.
        timeout: Seconds that the flow may go on after the block.
        abandon: End the flow with the block, whatever has become of it.
    """
    port = next(_ports)
    command = (sys.executable, _PROGRAM)
    outcomes: list[Outcome] = []
    with contextlib.ExitStack() as processes:
        receiver = target.popen(*command, "receive", address, port, stderr=subprocess.PIPE)
        processes.callback(_end, receiver)
        assert receiver.stdout is not None
        receiver.stdout.readline()  # it listens
        sender = source.popen(
            *command, "send", address, port, size, seconds, stderr=subprocess.PIPE
        )
        processes.callback(_end, sender)
        yield outcomes
        if not abandon:
            outcomes += [_outcome(sender, timeout), _outcome(receiver, timeout)]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def transfer(
    source: Namespace, target: Namespace, address: str, size: int, timeout: float = 60.0
) -> Outcome:
    """Send `size` bytes, see them arrive unharmed; return what the receiver saw."""
    with flow(source, target, address, size=size, timeout=timeout) as outcomes:
        pass
    sent, received = outcomes
    assert received.bytes == sent.bytes
    assert sent.bytes >= size
    assert received.sha256 == sent.sha256
    return received
