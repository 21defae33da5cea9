"""What running processes cost, read from /proc, and short commands run to their end."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KIB = 1024
COMMAND_TIMEOUT = 60.0

#: Administrators' programs live where an ordinary user's PATH does not look.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


class BenchmarkError(Exception):
    """A measurement could not be made; the message says why, in one line."""


def run(command: Sequence[str | Path], *, cwd: Path | None = None, stdin: str = "") -> str:
    """Run a short command to its end and return what it printed."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        last = done.stdout.strip()[-300:]
        raise BenchmarkError(f"{' '.join(words[:6])} exited with {done.returncode}: {last}")
    return done.stdout


def with_descendants(pid: int) -> Iterator[int]:
    """Yield a process and every process that descends from it and lives."""
    yield pid
    with contextlib.suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from with_descendants(int(child))


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, its threads and its ended children."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0.0
    # The second field, the name, may hold spaces; utime, stime, cutime, cstime are 14 to 17.
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND


def memory_kib(pid: int, field: str) -> int:
    """Return one of the sizes of /proc/PID/status, such as VmHWM (peak) or RssAnon."""
    try:
        text = (PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0
