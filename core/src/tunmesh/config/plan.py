"""What a changed configuration means for a node that runs: which keys differ, what each takes.

Knows nothing of what runs: it compares values and leaves the rest to the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec

from tunmesh.config.applies import Applies, applies
from tunmesh.config.forms import extras, holds_tables, is_struct, unwrap
from tunmesh.config.problems import join_key
from tunmesh.config.render import MASK, masked
from tunmesh.config.toml import plain, toml_value
from tunmesh.config.types import Config, Document, PluginsOptions

S = TypeVar("S", bound=msgspec.Struct)

#: Whether a key, given dotted, takes a restart though its type says otherwise.
Held: TypeAlias = Callable[[str], bool]


def _none(_key: str) -> bool:
    return False


@dataclass(frozen=True)
class Change:
    """A key whose value is another one.

    Attributes:
        key: Dotted.
        old: The value in force, as TOML; secrets masked. Empty if there is none.
        new: The other value.
        applies: What it takes.
    """

    key: str
    old: str
    new: str
    applies: Applies


def compare_configs(old: Config, new: Config, held: Held = _none) -> tuple[Config, list[Change]]:
    """Compare two configurations, but for the tables of plugins.

    Args:
        old: What is in force.
        new: What the file says now.
        held: Keys that take a restart in any case.

    Returns:
        What can be in force without a restart, and the changes in the order of the keys.
    """
    document, changes = compare(_document(old), _document(new), held=held)
    values = {name: getattr(document, name) for name in Document.__struct_fields__}
    values["plugins"] = msgspec.structs.replace(document.plugins, tables=new.plugins.tables)
    return msgspec.structs.replace(new, **values), changes


def _document(config: Config) -> Document:
    values = {name: getattr(config, name) for name in Document.__struct_fields__}
    values["plugins"] = PluginsOptions(enabled=config.plugins.enabled)
    return Document(**values)


def compare(old: S, new: S, key: str = "", held: Held = _none) -> tuple[S, list[Change]]:
    """Compare two values of one options type: see `compare_configs`.

    Args:
        old: What is in force.
        new: What the file says now.
        key: Dotted key of the table.
        held: Keys that take a restart in any case.
    """
    values: dict[str, Any] = {}
    changes: list[Change] = []
    for field in msgspec.structs.fields(type(old)):
        inner = join_key(key, field.encode_name)
        before, after = getattr(old, field.name), getattr(new, field.name)
        values[field.name] = before
        if is_struct(unwrap(field.type)[0]):
            values[field.name], found = compare(before, after, inner, held)
            changes += found
        elif holds_tables(field.type):
            values[field.name], found = _compare_tables(before, after, inner, held)
            changes += found
        elif before != after:
            takes: Applies = "restart" if held(inner) else applies(type(old), field)
            if takes != "restart":
                values[field.name] = after
            changes.append(Change(inner, _shown(old, field), _shown(new, field), takes))
    return type(old)(**values), changes


def _compare_tables(
    old: Mapping[str, msgspec.Struct], new: Mapping[str, msgspec.Struct], key: str, held: Held
) -> tuple[dict[str, msgspec.Struct], list[Change]]:
    """Compare tables with names of the user's choice, which may come and go."""
    result: dict[str, msgspec.Struct] = {}
    changes: list[Change] = []
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        inner = join_key(key, name)
        if before is not None and after is not None:
            result[name], found = compare(before, after, inner, held)
            changes += found
            continue
        takes: Applies = "restart" if held(inner) else _of_table(type(before or after))
        kept = before if takes == "restart" else after
        if kept is not None:
            result[name] = kept
        changes.append(Change(inner, _shown_table(before), _shown_table(after), takes))
    return result, changes


def _of_table(kind: type[Any]) -> Applies:
    """What it takes that a table comes or goes: the most that any of its keys takes."""
    classes = {applies(kind, field) for field in msgspec.structs.fields(kind)}
    return "restart" if "restart" in classes else "reconnect" if "reconnect" in classes else "live"


def _shown(table: msgspec.Struct, field: msgspec.structs.FieldInfo) -> str:
    return toml_value(_visible(table, field))


def _shown_table(table: msgspec.Struct | None) -> str:
    if table is None:
        return ""
    fields = msgspec.structs.fields(type(table))
    return toml_value({field.encode_name: _visible(table, field) for field in fields})


def _visible(table: msgspec.Struct, field: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401  # any TOML value
    """A value as the user wrote it, without what is secret in it."""
    value = getattr(table, field.name)
    if value is None:
        return ""
    return MASK if value and extras(unwrap(field.type)[1]).get("secret") else masked(plain(value))
