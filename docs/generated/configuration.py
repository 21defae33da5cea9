"""Every configuration key, made of the options types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from docs.generated.sources import plugins, prose
from tunmesh.config.applies import applies
from tunmesh.config.forms import (
    TypeForm,
    describe,
    element_type,
    extras,
    is_struct,
    origin_of,
    unwrap,
)
from tunmesh.config.problems import join_key
from tunmesh.config.toml import plain, toml_value
from tunmesh.config.types import Document, PluginsOptions
from tunmesh.durations import Duration


class Key(NamedTuple):
    """A key: the type of its table, and its field there."""

    table: type[msgspec.Struct]
    field: msgspec.structs.FieldInfo


def keys() -> dict[str, Key]:
    """Every configuration key by its dotted name; a name that the user chooses is ``NAME``."""
    return {name: key for _, _, found in _tables() for name, key in found.items()}


def _tables() -> Iterator[tuple[str, str, dict[str, Key]]]:
    """The tables of a configuration: name, summary, and their keys by dotted name."""
    for field in msgspec.structs.fields(Document):
        kind = unwrap(field.type)[0]
        if kind is PluginsOptions:
            yield "plugins", _summary(kind), _fields("plugins", [kind])
            for name, summary, kinds in _plugin_options():
                table = join_key("plugins", name)
                yield table, f"{summary}.", _fields(table, kinds)
        elif is_struct(kind):
            yield field.name, _summary(kind), _fields(field.name, [kind])
        else:  # a table of tables, each with a name of its own
            kind = unwrap(get_args(kind)[1])[0]
            table = join_key(field.name, "NAME")
            yield table, _summary(kind), _fields(table, [kind])


def _plugin_options() -> Iterator[tuple[str, str, list[type[msgspec.Struct]]]]:
    for entry in plugins().entries:
        registrations = plugins().registrations_of(entry.name).values()
        kinds = [registration.options for registration in registrations]
        if any(msgspec.structs.fields(kind) for kind in kinds):
            summary = "; ".join(registration.summary for registration in registrations)
            yield entry.name, summary[:1].upper() + summary[1:], kinds


def _fields(table: str, kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Key]:
    return {
        join_key(table, field.encode_name): Key(kind, field)
        for kind in kinds
        for field in msgspec.structs.fields(kind)
        if field.name != "tables" or kind is not PluginsOptions  # the plugins' own tables
    }


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def configuration() -> str:
    """Every table with its keys: type, bounds, default, meaning."""
    lines: list[str] = []
    for table, summary, found in _tables():
        lines += [f"## [{table}]", "", summary, ""]
        for name, (kind, field) in found.items():
            facts = f"{_facts(field)}; a change applies: {_TAKES[applies(kind, field)]}"
            lines += [f"### {name}", "", facts, "", _meaning(field), ""]
    return "\n".join(lines)


_TAKES = {
    "live": "live",
    "reconnect": "live, by new sessions",
    "restart": "after a restart",
}


def _facts(field: msgspec.structs.FieldInfo) -> str:
    kind, metas = unwrap(field.type)
    facts = [_words(kind)]
    for meta in metas:
        unit = " characters" if kind is str else " elements"
        facts += [
            f"{words} {bound}{end}"
            for words, bound, end in (
                ("at least", meta.ge, ""),
                ("at most", meta.le, ""),
                ("at least", meta.min_length, unit),
                ("at most", meta.max_length, unit),
            )
            if bound is not None
        ]
    if extras(metas).get("required"):
        facts.append("**required**")
    elif (default := field.default) is not msgspec.NODEFAULT:
        facts.append(f"default `{toml_value(plain(default))}`")
    elif field.default_factory is not msgspec.NODEFAULT:
        facts.append(f"default `{toml_value(plain(field.default_factory()))}`")
    return ", ".join(facts)


def _words(kind: TypeForm, *, many: bool = False) -> str:
    """What a value is, for a person: "list of durations"."""
    kind = unwrap(kind)[0]
    if (element := element_type(kind)) is not None:
        return ("lists of " if many else "list of ") + _words(element, many=True)
    if origin_of(kind) is Literal:
        return " or ".join(f"`{toml_value(value)}`" for value in get_args(kind))
    if origin_of(kind) is dict:
        return "table of " + _words(get_args(kind)[1], many=True)
    if is_struct(kind) and (short := getattr(kind, "shorthand", None)) is not None:
        named = {field.name: field for field in msgspec.structs.fields(kind)}
        return f"{_words(named[short].type, many=many)} or tables"
    if not isinstance(kind, type) and (parts := get_args(kind)):
        return " or ".join(dict.fromkeys(_words(part, many=many) for part in parts))
    word = _NAMES.get(kind) or _NAMES.get(getattr(kind, "__name__", ""), "value")
    return f"{word}es" if many and word.endswith("x") else f"{word}s" if many else word


_NAMES: Mapping[Any, str] = {
    Duration: "duration",
    bool: "boolean",
    int: "whole number",
    float: "number",
    str: "string",
    "IPv4Network": "prefix",
    "IPv6Network": "prefix",
}


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    metas = unwrap(field.type)[1]
    text = describe(metas) or describe(unwrap(_unannotated(field.type))[1])
    extra = extras(metas)
    notes = [
        note
        for name, note in (
            ("path", "A relative path is relative to the directory of the configuration file."),
            ("secret", "Never shown by `tunmesh config show`."),
            ("verbatim", "`${NAME}` is left to the shell."),
            (
                "commands",
                "Taken only from a file that root or this user owns and nobody else can write.",
            ),
        )
        if extra.get(name)
    ]
    sentence = text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")
    return " ".join([prose(sentence), *notes])


def _unannotated(kind: TypeForm) -> TypeForm:
    return get_args(kind)[0] if get_args(kind) else kind
