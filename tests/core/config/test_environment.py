from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.config.environment import expand

ENVIRON = {"A": "one", "EMPTY": "", "NESTED": "${A}"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$A", "$A"),
        ("${A}", "one"),
        ("<${A}|${A}>", "<one|one>"),
        ("${EMPTY}", ""),
        ("${EMPTY:-two}", "two"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("$${A}", "${A}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced(text: str, expanded: str) -> None:
    assert expand(text, ENVIRON) == expanded


def test_an_unset_variable_without_default_is_named() -> None:
    with pytest.raises(ValueError, match=r"variable NONE is not set: .*\$\{NONE:-default\}"):
        expand("a ${NONE}", ENVIRON)


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A-b}", "${A:-${B}}"])
def test_what_looks_like_a_reference_must_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="malformed reference"):
        expand(text, ENVIRON)


@given(st.text(alphabet="ab${}:-A_"))
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        expanded = expand(text, ENVIRON)
    except ValueError:
        assert "${" in text
    else:
        assert "${" in text or expanded == text


@given(st.text())
def test_an_escaped_text_is_itself(text: str) -> None:
    escaped = text.replace("${", "$${")
    if "$$${" not in escaped and "$$$" not in escaped:
        assert expand(escaped, {}) == text
