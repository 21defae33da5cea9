"""Logging: one line for an event, its name first, then ``key=value``; or the same as JSON.

The template of a log call is the event: ``log.info("peer up peer=%s link=%s", …)``. What other
nodes chose passes through `safe`. Whoever causes events could fill the disk, so each is limited.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

#: Characters of a remote string that are shown.
REMOTE_LIMIT = 128
#: Records of one event that pass, and in how many seconds: of warnings and errors; of information.
LIMIT_WARNING = (5, 30.0)
LIMIT_INFO = (200, 20.0)

_UNSAFE = re.compile(r"[^ -\[\]-~]")  # anything but printable ASCII; nor the backslash
_CONTROL = re.compile(r"[^ -~]")
_FIELD = re.compile(r" ?\b(\w+)=(%[-#0 +\w.]*?[a-zA-Z])")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe(text: object, limit: int = REMOTE_LIMIT) -> str:
    """Make a string that another node chose fit to be shown.

    Whatever could end the line or steer a terminal is escaped; then the string is cut.
    """
    escaped = _UNSAFE.sub(_escape, str(text)[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."


class RateLimited(logging.Filter):
    """Lets through a few records of each event in a time; tells how many it held back.

    An event is a logger and a template. Warnings are mostly remote misbehaviour, and a few tell as
    much as many. Other nodes can cause information too, by coming and going, but a whole mesh that
    starts is worth its lines. Records for debugging all pass.

    Args:
        clock: Seconds, monotonic.
    """

    _EVENTS = 1024  # bounds memory, should a plugin log text that varies as its template

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes; it gets ``suppressed`` if others before it did not."""
        if record.levelno < logging.INFO:
            return True
        burst, interval = LIMIT_INFO if record.levelno < logging.WARNING else LIMIT_WARNING
        now = self._clock()
        key = (record.name, str(record.msg))
        window = self._windows.get(key)
        if window is None or now - window.began >= interval:
            if window is not None and window.suppressed:
                record.suppressed = window.suppressed
            self._windows.pop(key, None)  # so that the order of the dict is that of the windows
            if len(self._windows) >= self._EVENTS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[key] = _Window(now)
        window.passed += 1
        if window.passed <= burst:
            return True
        window.suppressed += 1
        return False


class _Window:
    __slots__ = ("began", "passed", "suppressed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.passed = 0
        self.suppressed = 0


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """``2031-05-01T12:00:00.000Z info tunmesh.node: peer up peer=b link=udp://…``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the lines of a traceback if there is one."""
        event, fields = _parse(record)
        shown = [event, *(f"{name}={_quoted(spec % (value,))}" for name, spec, value in fields)]
        message = _CONTROL.sub(_escape, " ".join(shown))
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {message}"
        if suppressed := getattr(record, "suppressed", 0):
            line += f" suppressed={suppressed}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds."""
        origin: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        event, fields = _parse(record)
        values = {name: _value(value) for name, _, value in fields}
        origin["event"] = _encodable(event)
        document = origin | values | origin  # no field can pass for one of these
        if suppressed := getattr(record, "suppressed", 0):
            document["suppressed"] = suppressed
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        # JSON escapes line ends; the rest is escaped for terminals, as JSON would.
        return _CONTROL.sub(_json_escape, msgspec.json.encode(document).decode())


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _parse(record: logging.LogRecord) -> tuple[str, list[tuple[str, str, object]]]:
    """The event, and of each field its name, its conversion specifier and its value.

    A template that has other arguments than fields is an event without fields.
    """
    template, arguments = str(record.msg), record.args
    fields = _FIELD.findall(template)
    if not fields or not isinstance(arguments, tuple) or len(fields) != len(arguments):
        return record.getMessage(), []
    event = _FIELD.sub("", template).strip()
    return event, [(*field, value) for field, value in zip(fields, arguments, strict=True)]


def _quoted(text: str) -> str:
    """The text, in quotes if something in it could be taken for the end of it."""
    if text and not set(text) & set(' ="'):
        return text
    return '"' + text.replace('"', "\\x22") + '"'


def _value(value: object) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool | int | float):
        return value
    return _encodable(str(value))


def _encodable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 has no form for."""
    return text.encode("utf-8", "backslashreplace").decode()


def setup(
    level: str = "info",
    style: Literal["text", "json"] = "text",
    stream: TextIO | None = None,
) -> None:
    """Log to a stream, stderr unless told, in place of whatever was set up before.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        style: ``text`` or ``json``.
        stream: Where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(RateLimited())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
