"""What Ctrl-C and its like do: they end the story, once, and never the cleaning up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: Whatever asks the demo to end does what Ctrl-C does.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt() -> None:
    """Let the first of these signals raise `KeyboardInterrupt`, and ignore all further ones."""
    for number in _ENDING:
        signal.signal(number, _raise)


def ignore() -> None:
    """Ignore them all: nothing may come between."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _raise(*_: object) -> None:
    ignore()
    raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Make them wait while this process forks.

    Python runs functions after a fork whose exceptions it drops, this one included.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def restore() -> None:
    """In a child process: let them do what they do in any other process."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
