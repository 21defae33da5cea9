from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh import logs

log = logging.getLogger("tunmesh.test")

HOSTILE = [
    "a\nb",
    "\x1b[2Jgone",
    "%s %d",
    "{}{0}",
    "\u202egnp",
    "nul\0",
    "x" * 10_000,
    "a b=c",
    "\\",
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(style: str, template: str, *arguments: object, level: int = logging.INFO) -> str:
    stream = io.StringIO()
    logs.setup("debug", "json" if style == "json" else "text", stream)
    log.log(level, template, *arguments)
    return stream.getvalue()


@given(st.text())
def test_safe_gives_a_short_printable_line(text: str) -> None:
    shown = logs.safe(text)
    assert len(shown) <= logs.REMOTE_LIMIT
    assert shown.isascii()
    assert shown.isprintable()


def test_safe_leaves_the_ordinary_alone() -> None:
    for text in ("node-1", "udp://[fd00::1]:4567", "10.0.0.1/24"):
        assert logs.safe(text) == text


def test_safe_is_injective_on_what_it_does_not_cut() -> None:
    assert logs.safe("a\nb") != logs.safe("a\\x0ab")


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_stay_on_one_line(style: str, value: str) -> None:
    for shown in (value, logs.safe(value)):
        text = written(style, "peer up peer=%s", shown)
        assert text.count("\n") == 1
        assert text.endswith("\n")
        assert text.isascii()
        assert text[:-1].isprintable()


def test_text_line() -> None:
    text = written("text", "peer up peer=%s rtt=%.1f", "b", 0.25)
    assert text.endswith("Z info tunmesh.test: peer up peer=b rtt=0.2\n")


def test_a_value_cannot_pass_for_another_field() -> None:
    text = written("text", "peer up peer=%s link=%s", 'b" link=evil', "")
    assert text.endswith(r': peer up peer="b\x22 link=evil" link=""' + "\n")


def test_json_line_has_the_event_and_its_fields() -> None:
    document = json.loads(written("json", "peer up peer=%s rtt=%.1f hops=%d", "b\u00e4\n", 0.25, 1))
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "info",
        "logger": "tunmesh.test",
        "event": "peer up",
        "peer": "b\u00e4\n",
        "rtt": 0.25,
        "hops": 1,
    }


def test_json_line_of_another_template_is_its_message() -> None:
    assert json.loads(written("json", "loaded %d of %s", 3, "4"))["event"] == "loaded 3 of 4"
    assert json.loads(written("json", "no arguments k=v"))["event"] == "no arguments k=v"
    assert json.loads(written("json", "as dict %(a)s", {"a": 1}))["event"] == "as dict 1"


def test_no_field_passes_for_the_origin() -> None:
    document = json.loads(written("json", "event level=%s time=%s", "debug", "never"))
    assert document["level"] == "info"
    assert document["time"] != "never"


@given(st.text(st.characters(exclude_categories=())))
def test_json_is_valid_for_any_string(text: str) -> None:
    assert json.loads(written("json", "event value=%s", text))["event"] == "event"


@pytest.mark.parametrize("style", ["text", "json"])
def test_tracebacks_are_kept(style: str) -> None:
    stream = io.StringIO()
    logs.setup("info", "json" if style == "json" else "text", stream)
    try:
        int("boom")
    except ValueError:
        log.exception("plugin failed plugin=%s", "x")
    assert "ValueError: invalid literal" in stream.getvalue()


def test_level() -> None:
    stream = io.StringIO()
    logs.setup("warning", "text", stream)
    log.info("quiet")
    assert stream.getvalue() == ""


def test_a_flood_is_limited_and_counted() -> None:
    now = [100.0]
    limited = logs.RateLimited(clock=lambda: now[0])

    def passes(template: str, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.LogRecord("x", level, "", 0, template, ("peer",), None)
        return record if limited.filter(record) else None

    assert sum(passes("bad packet from=%s") is not None for _ in range(1000)) == 5
    assert passes("another event from=%s") is not None
    assert all(passes("bad packet from=%s", logging.DEBUG) for _ in range(1000))
    now[0] += 29.9
    assert passes("bad packet from=%s") is None
    now[0] += 0.1
    record = passes("bad packet from=%s")
    assert record is not None
    assert record.__dict__["suppressed"] == 996
    assert logs.TextFormatter().format(record).endswith("from=peer suppressed=996")
    assert json.loads(logs.JsonFormatter().format(record))["suppressed"] == 996
    again = passes("bad packet from=%s")
    assert again is not None
    assert not hasattr(again, "suppressed")


def test_information_is_limited_less() -> None:
    now = [100.0]
    limited = logs.RateLimited(clock=lambda: now[0])

    def passes() -> bool:
        record = logging.LogRecord("x", logging.INFO, "", 0, "peer up peer=%s", ("b",), None)
        return limited.filter(record)

    assert sum(passes() for _ in range(1000)) == 200, "a mesh may start"
    now[0] += 20.0
    assert sum(passes() for _ in range(1000)) == 200, "but nobody fills the disk"


def test_the_table_of_events_is_bounded() -> None:
    limited = logs.RateLimited(clock=lambda: 0.0)
    for number in range(5000):
        record = logging.LogRecord("x", logging.WARNING, "", 0, f"event {number}", (), None)
        assert limited.filter(record)
    assert len(limited._windows) <= 1024
