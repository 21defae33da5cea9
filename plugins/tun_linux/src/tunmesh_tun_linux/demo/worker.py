"""Runs a function inside a namespace, in a process of its own, and brings back what it tells."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeAlias

from tunmesh_tun_linux.demo import signals
from tunmesh_tun_linux.demo.namespaces import DemoError, enter_for_good

#: Sends a value to the demo while the function runs.
Report: TypeAlias = Callable[[Any], None]

# The demo has one thread, so a fork is safe, and nothing needs to be imported again.
_context = multiprocessing.get_context("fork")


class Worker:
    """A function that runs in a namespace. Leaving the context ends it, finished or not.

    Args:
        namespace: Where it runs.
        function: Called with `Report` and `args`; what it returns is the result.
        args: For the function.
    """

    def __init__(self, namespace: str, function: Callable[..., Any], *args: Any) -> None:
        self._name = function.__name__
        self._pipe, theirs = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_run, args=(namespace, theirs, function, args), daemon=True
        )
        with signals.held():
            self._process.start()
        theirs.close()
        self.finished = False
        self.result: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()

    def poll(self, timeout: float) -> Any:  # noqa: ANN401 - whatever the function reports
        """Wait for the next value that the function reports.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The value; None if none came, or if the function returned (then `finished` is set).

        Raises:
            DemoError: The function failed.
        """
        if self.finished or not self._pipe.poll(timeout):
            return None
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise DemoError(f"{self._name} ended without a result") from None
        if kind == "error":
            raise DemoError(f"{self._name}: {value}")
        if kind == "report":
            return value
        self.finished = True
        self.result = value
        return None


def _run(
    namespace: str, pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    enter_for_good(namespace, signal.SIGKILL)
    # Ctrl-C reaches the whole process group; it is the demo that decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = function(lambda value: pipe.send(("report", value)), *args)
    except OSError as exc:
        pipe.send(("error", exc.strerror or str(exc)))
    else:
        pipe.send(("result", result))
