"""How counters and errors of plugins have to be named."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def check_counters(found: object, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Check what `statistics` returned.

    Args:
        found: What it returned.
        before: What it returned earlier.

    Raises:
        AssertionError: It cannot be shown as counters.
    """
    assert isinstance(found, dict), f"statistics returned {type(found).__name__}, not a dict"
    for name, value in found.items():
        assert isinstance(name, str), f"a counter is named {name!r}"
        assert _NAME.fullmatch(name), f"the counter {name!r} is not named in snake_case"
        assert type(value) is int, f"the counter {name} is {value!r}, not a whole number"
        assert value >= 0, f"the counter {name} is {value}"
    for name, value in (before or {}).items():
        assert found.get(name, 0) >= value, f"the counter {name} fell"
    return dict(found)


def check_line(error: Exception) -> None:
    """Check that an error says what went wrong in one line.

    Raises:
        AssertionError: It does not.
    """
    text = str(error)
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert len(text.splitlines()) == 1, f"{type(error).__name__} has several lines: {text!r}"
    assert text.isprintable(), f"{type(error).__name__} cannot be printed: {text!r}"
