"""Every hook and every method of an interface has a docstring, and a place in the reference."""

from __future__ import annotations

import inspect
import re
from abc import ABC

import pytest

from tests.docs.plugin_reference import (
    REFERENCE,
    Member,
    classes,
    fields,
    hooks,
    markdown,
    members,
    modules,
    page,
)
from tunmesh import plugin
from tunmesh.interfaces import transport

CLASSES = [cls for module in modules().values() for cls in classes(module)]
MEMBERS = [*hooks(), *(member for cls in CLASSES for member in members(cls))]


def test_the_reference_is_what_the_docstrings_say() -> None:
    assert REFERENCE.read_text() == page(), "run: .venv/bin/python -m tests.docs.plugin_reference"


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_every_member_is_described(member: Member) -> None:
    first = member.text.splitlines()[0] if member.text else ""
    assert first.endswith((".", ":")), f"{member.name} has no docstring of one sentence first"
    assert re.search(rf"^#+ {re.escape(member.name)}$", REFERENCE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_and_argument_is_described(cls: type) -> None:
    described = inspect.getdoc(cls) or ""
    for name in fields(cls):
        assert re.search(rf"^    {name}: ", described, re.MULTILINE), f"{cls.__name__}.{name}"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_attribute_is_described(cls: type) -> None:
    if not issubclass(cls, ABC):
        return
    described = {member.name for member in members(cls)}
    for name in vars(cls).get("__annotations__", {}):
        assert f"{cls.__name__}.{name}" in described


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook.name)
def test_every_hook_has_an_example_and_its_version(hook: Member) -> None:
    assert "\nExample::\n\n    @hookimpl\n    def " + hook.name in hook.text
    assert re.search(r"^\.\. versionadded:: \d+\.\d+$", hook.text, re.MULTILINE)
    assert re.search(r"^Called ", hook.text, re.MULTILINE), "when it is called"
    assert re.search(r"raise[sd]", hook.text), "what happens if it raises"


def test_what_authors_import_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    for name in plugin.__all__:
        value = getattr(plugin, name)
        if isinstance(value, type) and value.__module__.startswith("tunmesh.interfaces"):
            assert f"### {name}\n" in text


def test_docstrings_become_markdown() -> None:
    assert markdown(
        """Do ``it``.

        Example::

            first()

            second()

        Args:
            one: The first,
                in two lines.

        Returns:
            What it did.

        .. versionadded:: 0.1
        """
    ).splitlines() == [
        "Do `it`.",
        "",
        "Example:",
        "",
        "```python",
        "first()",
        "",
        "second()",
        "```",
        "",
        "**Args**",
        "",
        "- `one`: The first,",
        "  in two lines.",
        "",
        "**Returns**",
        "",
        "What it did.",
        "",
        "*New in version 0.1.*",
    ]


def test_class_attributes_are_members() -> None:
    found = {member.name: member for member in members(transport.Transport)}
    assert found["Transport.probes_mtu"].heading == "probes_mtu: bool = False"
    assert found["Transport.send"].heading.startswith("abstract send(self, handle: PathHandle, ")
