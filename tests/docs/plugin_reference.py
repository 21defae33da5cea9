"""Writes ``docs/plugins/reference.md``: ``python -m tests.docs.plugin_reference``.

It is made of the docstrings: of each hook, and of each class that a plugin implements or is given
with its methods and fields. What has no docstring has no place there, and fails a test.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NamedTuple

from tests.core.public_api import signature
from tunmesh import hookspecs, interfaces

REFERENCE = Path(__file__).parents[2] / "docs" / "plugins" / "reference.md"

_HEAD = """\
# Reference

Every hook, and every class that a plugin implements or is given. This page is made of the
docstrings by `python -m tests.docs.plugin_reference`; a test compares the two. Everything can be
imported from `tunmesh.plugin` or from the module that is named with it.
"""

#: The headings of the modules of interfaces, those of the roles first.
_TITLES = {
    "common": "What every plugin is given",
    "registration": "Registrations",
    "transport": "The role `transport`",
    "tun": "The role `tun`",
    "policy": "The role `policy`",
    "address": "The role `address`",
    "events": "What notification hooks are told",
}

#: The sections of Google's style, and how they are called here.
_SECTIONS = ("Args", "Returns", "Raises", "Attributes")
_SECTION = re.compile(rf"^({'|'.join(_SECTIONS)}):$")
#: ``name: meaning``, of an argument, an attribute or an exception.
_ITEM = re.compile(r"^(\*{0,2}\w+): (.*)$")
#: The comment above a class attribute, and the attribute.
_COMMENTED = re.compile(r"((?:^    #:.*\n)+)^    (\w+): (.+?)(?: = (.+))?$", re.MULTILINE)


class Member(NamedTuple):
    """What has a place in the reference.

    Attributes:
        name: Dotted, from the class or the hook on.
        heading: As it is shown.
        text: Its docstring, or the comment above it.
    """

    name: str
    heading: str
    text: str


def modules() -> dict[str, ModuleType]:
    """The modules of interfaces by their headings; those without one come last."""
    found = {module.name for module in pkgutil.iter_modules(interfaces.__path__)}
    return {
        _TITLES.get(name, f"`tunmesh.interfaces.{name}`"): importlib.import_module(
            f"tunmesh.interfaces.{name}"
        )
        for name in (*_TITLES, *sorted(found - _TITLES.keys()))
    }


def hooks() -> list[Member]:
    """Every hook."""
    return [
        Member(name, f"{name}{signature(value)}", inspect.getdoc(value) or "")
        for name, value in vars(hookspecs).items()
        if name.startswith("tunmesh_")
    ]


def classes(module: ModuleType) -> list[type]:
    """The classes that a module of interfaces defines, in its order."""
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and not name.startswith("_")
        if value.__module__ == module.__name__
    ]
    return sorted(found, key=lambda cls: inspect.getsourcelines(cls)[1])


def members(cls: type) -> Iterator[Member]:
    """The methods and class attributes of a class that have a text of their own."""
    for comment, name, kind, default in _COMMENTED.findall(inspect.getsource(cls)):
        text = " ".join(line.strip().removeprefix("#:").strip() for line in comment.splitlines())
        heading = f"{name}: {kind}{f' = {default}' if default else ''}"
        yield Member(f"{cls.__name__}.{name}", heading, text)
    for name, value in vars(cls).items():
        if isinstance(value, FunctionType) and _written(name, value, cls):
            abstract = "abstract " if getattr(value, "__isabstractmethod__", False) else ""
            kind = "async " if inspect.iscoroutinefunction(value) else ""
            heading = f"{abstract}{kind}{name}{signature(value)}"
            yield Member(f"{cls.__name__}.{name}", heading, inspect.getdoc(value) or "")


def _written(name: str, function: FunctionType, cls: type) -> bool:
    if function.__code__.co_filename != inspect.getsourcefile(cls):
        return False  # made by dataclass or Protocol
    inherited = not vars(cls).get("__abstractmethods__") and name in {"__aenter__", "__aexit__"}
    return not inherited and (not name.startswith("_") or name in {"__aenter__", "__aexit__"})


def fields(cls: type) -> set[str]:
    """What the docstring of a class must describe under ``Attributes``."""
    if dataclasses.is_dataclass(cls):
        return {field.name for field in dataclasses.fields(cls)} - _inherited_fields(cls)
    own = {name for name, value in vars(cls).items() if isinstance(value, property)}
    return own | {*getattr(cls, "_fields", ())}


def _inherited_fields(cls: type) -> set[str]:
    return {
        field.name
        for base in cls.__bases__
        if dataclasses.is_dataclass(base)
        for field in dataclasses.fields(base)
    }


def markdown(text: str) -> str:
    """A docstring in Google's style as Markdown."""
    lines: list[str] = []
    section = ""
    code = False
    source = inspect.cleandoc(text).splitlines()
    for number, line in enumerate(source):
        if found := _SECTION.match(line):
            section, code = found[1], False
            lines += [f"**{section}**", ""]
        elif line.endswith("::") and not section:
            label = line.removesuffix("::").strip()
            lines += [f"{label}:", ""] if label else []
            lines.append("```python" if label == "Example" else "```text")
            code = True
        elif line.startswith(".. versionadded::"):
            lines.append(f"*New in version {line.removeprefix('.. versionadded::').strip()}.*")
        elif code:
            follows = next((rest for rest in source[number:] if rest.strip()), "")
            if not line and not follows.startswith(" "):
                lines += ["```", ""]
                code = False
            elif line or lines[-1] not in {"```python", "```text"}:
                lines.append(line.removeprefix("    "))
        else:
            lines.append(_prose(line, section))
    return "\n".join([*lines, "```"] if code else lines)


def _prose(line: str, section: str) -> str:
    line = line.replace("``", "`")
    if not section or not line:
        return line
    text = line.removeprefix("    ")
    item = _ITEM.match(text)
    return (
        f"- `{item[1]}`: {item[2]}"
        if item
        else text
        if section == "Returns"
        else f"  {text.strip()}"
    )


def page() -> str:
    """The whole page."""
    lines = [_HEAD, "## Hooks", "", (inspect.getdoc(hookspecs) or "").replace("``", "`"), ""]
    for hook in hooks():
        lines += [f"### {hook.name}", "", f"`{hook.heading}`", "", markdown(hook.text), ""]
    for title, module in modules().items():
        lines += [f"## {title}", "", markdown(inspect.getdoc(module) or ""), ""]
        for cls in classes(module):
            lines += [f"### {cls.__name__}", "", f"`{module.__name__}.{cls.__name__}`", ""]
            lines += [markdown(inspect.getdoc(cls) or ""), ""]
            for member in members(cls):
                lines += [f"#### {member.name}", "", f"`{member.heading}`", ""]
                lines += [markdown(member.text), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    REFERENCE.write_text(page())
