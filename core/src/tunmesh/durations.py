"""Durations as they are written in a configuration. Knows nothing of files or options."""

from __future__ import annotations

import math
import random
import re
from typing import Protocol

#: Seconds of each unit, largest first.
UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_ONE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) *(?P<unit>ms|s|m|h|d)")
_FORMS = 'write a number of seconds, or "250ms", "10s", "5m", "1h", "1d", or a range "10s..20s"'


class Uniform(Protocol):
    """What draws a number from a range: `random.Random`, or a test's own."""

    def uniform(self, a: float, b: float, /) -> float:
        """A random number in the range."""


class Duration:
    """A span of time, or a range of spans from which one is drawn at each use.

    ``Duration(2)``, ``Duration("250ms")`` and ``Duration("10s..20s")`` are durations; ``float()``
    gives the low end in seconds, ``str()`` the text that a configuration would hold.

    Raises:
        ValueError: The value is no duration.
    """

    __slots__ = ("high", "low")

    low: float
    high: float

    def __init__(self, value: str | float) -> None:
        if isinstance(value, str):
            low, separator, high = value.partition("..")
            self.low = _seconds(low, value)
            self.high = _seconds(high, value) if separator else self.low
        else:
            self.low = self.high = float(value)
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low < 0:
            raise ValueError(f"{value} is not a duration: {_FORMS}")
        if self.high < self.low:
            raise ValueError(f'"{value}" is a range whose end lies before its start')

    def draw(self, rng: Uniform | None = None) -> float:
        """Seconds: the duration itself, or a random one of the range."""
        if self.low == self.high:
            return self.low
        return (rng or random).uniform(self.low, self.high)

    def __float__(self) -> float:
        return self.low

    def __str__(self) -> str:
        low = _text(self.low)
        return low if self.low == self.high else f"{low}..{_text(self.high)}"

    def __repr__(self) -> str:
        return f'Duration("{self}")'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Duration):
            return NotImplemented
        return (self.low, self.high) == (other.low, other.high)

    def __hash__(self) -> int:
        return hash((self.low, self.high))


def _seconds(text: str, whole: str) -> float:
    match = _ONE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{whole}" is not a duration: {_FORMS}')
    seconds = float(match["number"]) * UNITS[match["unit"]]
    return round(seconds, 9)  # "1.1ms" is 0.0011, not 0.0011000000000000001


def _text(seconds: float) -> str:
    """The text in the largest unit of which there is a whole number, else in seconds."""
    for unit, length in UNITS.items():
        count = round(seconds / length)
        if count and round(count * length, 9) == seconds:
            return f"{count}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
