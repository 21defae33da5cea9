"""The configuration as text: an example with comments, or what is in force, without secrets."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from tunmesh.config.applies import applies
from tunmesh.config.forms import describe, extras, holds_tables, unwrap
from tunmesh.config.problems import join_key
from tunmesh.config.toml import plain, toml_value
from tunmesh.config.types import Config, Document, PluginsOptions

MASK = "***"

_WIDTH = 96
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^/@:]*):[^/@]*@")
#: Keys that are masked in tables whose types are not known.
_SECRET_KEY = re.compile(r"secret|password|passphrase|token|private|credential", re.IGNORECASE)

_INTRODUCTION = (
    "Configuration of a tunmesh node: every key, with its default. Durations are numbers of "
    'seconds, or "250ms", "10s", "5m", "1h", "1d", or a range "10s..20s" from which one is drawn '
    "at each use. Any string may hold ${NAME} or ${NAME:-default} from the environment. Files are "
    "relative to this one. A changed value is applied by `tunmesh reload` where (live) is said; "
    "(reconnect) means that sessions are made anew then, (restart) that the node must be restarted."
)


@dataclass(frozen=True)
class PluginTable:
    """A plugin's table of the configuration.

    Attributes:
        name: The plugin.
        summary: What it is, one line.
        options: Its options for each of its roles, which share the table.
    """

    name: str
    summary: str
    options: tuple[msgspec.Struct, ...]


def example(enabled: Sequence[str], plugins: Sequence[PluginTable]) -> str:
    """A complete configuration with comments; what is required is empty."""
    document = Document(plugins=PluginsOptions(enabled=tuple(enabled)))
    writer = _Writer(comments=True)
    writer.comment(_INTRODUCTION)
    writer.document(document, plugins)
    return writer.text()


def show(
    config: Config, plugins: Sequence[PluginTable], others: Mapping[str, Mapping[str, Any]]
) -> str:
    """The configuration in force, secrets masked.

    Args:
        config: The configuration.
        plugins: The tables of the plugins whose options are known.
        others: The tables of other plugins, as they were read.
    """
    writer = _Writer(comments=False)
    writer.document(config, plugins)
    for name, table in others.items():
        writer.raw(join_key("plugins", name), table)
    return writer.text()


class _Writer:
    """Collects the lines of a TOML document."""

    def __init__(self, *, comments: bool) -> None:
        self._comments = comments
        self._lines: list[str] = []

    def text(self) -> str:
        """The document."""
        return "\n".join(self._lines).strip() + "\n"

    def comment(self, text: str, note: str = "") -> None:
        """Say something, as a sentence with a note behind it, where comments are wanted."""
        if text and not text.endswith((".", ":")):
            text += "."
        if self._comments:
            text = f"{text[:1].upper()}{text[1:]} {note}".strip()
            lines = textwrap.wrap(text, _WIDTH, break_on_hyphens=False)
            self._lines += [f"# {line}" for line in lines]

    def document(self, document: Document, plugins: Sequence[PluginTable]) -> None:
        """All tables: the core's in the order of their fields, the plugins' in their midst."""
        for field in msgspec.structs.fields(Document):
            value = getattr(document, field.name)
            if isinstance(value, PluginsOptions):
                self._header("plugins", _summary(PluginsOptions))
                enabled = msgspec.structs.fields(PluginsOptions)[0]
                self._assignment(PluginsOptions, enabled, value.enabled)
                for plugin in plugins:
                    self._table(join_key("plugins", plugin.name), plugin.summary, *plugin.options)
            elif isinstance(value, msgspec.Struct):
                self._table(field.name, _summary(type(value)), value)
            else:
                self._tables(field, field.name, value)

    def raw(self, key: str, table: Mapping[str, Any]) -> None:
        """A table of which nothing is known but its name."""
        self._header(key, "")
        for name, value in table.items():
            shown = MASK if value and _SECRET_KEY.search(name) else masked(plain(value))
            self._lines.append(f"{join_key('', name)} = {toml_value(shown)}")

    def _header(self, key: str, summary: str) -> None:
        self._lines.append("")
        self.comment(summary)
        self._lines.append(f"[{key}]")

    def _table(self, key: str, summary: str, *values: msgspec.Struct) -> None:
        """A table, and then the tables inside it."""
        self._header(key, summary)
        inner = []
        seen = set()
        for value in values:
            for field in msgspec.structs.fields(value):
                if field.encode_name in seen:
                    continue
                seen.add(field.encode_name)
                content = getattr(value, field.name)
                if isinstance(content, msgspec.Struct) or holds_tables(field.type):
                    inner.append((field, content))
                else:
                    self._assignment(type(value), field, content)
        for field, content in inner:
            self._tables(field, join_key(key, field.encode_name), content)

    def _tables(self, field: msgspec.structs.FieldInfo, key: str, value: object) -> None:
        """A field that is a table, or a table of tables."""
        if isinstance(value, msgspec.Struct):
            self._table(key, _summary(type(value)), value)
        elif isinstance(value, Mapping):
            kind, metas = unwrap(field.type)
            element = get_args(kind)[1]
            if not value and self._comments:
                value = {extras(metas).get("example", "example"): element()}
            for name, content in value.items():
                self._table(join_key(key, name), _summary(element), content)

    def _assignment(
        self, table: type[msgspec.Struct], field: msgspec.structs.FieldInfo, value: object
    ) -> None:
        metas = unwrap(field.type)[1]
        extra = extras(metas)
        required = "Required. " if extra.get("required") else ""
        self.comment(describe(metas), f"{required}({applies(table, field)})")
        name = join_key("", field.encode_name)
        if value is None:
            if self._comments:
                self._lines.append(f"# {name} =")
        elif extra.get("secret") and value:
            self._lines.append(f"{name} = {toml_value(MASK)}")
        else:
            self._lines.append(f"{name} = {toml_value(masked(plain(value)))}")


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def masked(value: Any) -> Any:  # noqa: ANN401  # any TOML value
    """The value without the passwords of URLs."""
    if isinstance(value, str):
        return _PASSWORD.sub(rf"\g<user>:{MASK}@", value)
    if isinstance(value, list):
        return [masked(element) for element in value]
    if isinstance(value, dict):
        return {name: masked(element) for name, element in value.items()}
    return value
