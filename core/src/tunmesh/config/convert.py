"""TOML values to typed options, leaf by leaf, so that every problem is found in one run.

msgspec checks each leaf, with the bounds of its `msgspec.Meta`; this module walks the tables,
expands the environment, and knows the keys. It does not know which options there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar, get_args

import msgspec
import tomli

from tunmesh.config.environment import expand
from tunmesh.config.forms import (
    WORDS,
    TypeForm,
    annotated,
    describe,
    element_type,
    expectations,
    extras,
    is_struct,
    origin_of,
    unwrap,
)
from tunmesh.config.problems import Origin, Problem, join_key, suggestion
from tunmesh.config.scalars import READERS, kind_of
from tunmesh.errors import ConfigError

S = TypeVar("S", bound=msgspec.Struct)

#: A value of TOML, or one that was converted.
Value: TypeAlias = Any


class _Invalid:
    """Stands for a value that has a problem."""


INVALID: Final = _Invalid()

_QUOTED = re.compile(r"`([^`]*)`")
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")


def toml_or_text(text: str) -> Value:
    """The TOML value that a text is, or else the text itself."""
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if document.keys() == {"value"} else text


class Converter:
    """Converts tables and collects what is wrong with them.

    Attributes:
        problems: What was wrong so far.
        from_environment: Dotted keys whose values hold something of the environment.
    """

    def __init__(self, origin: Origin, environ: Mapping[str, str]) -> None:
        self._origin = origin
        self._environ = environ
        self.problems: list[Problem] = []
        self.from_environment: set[str] = set()

    def problem(self, key: str, message: str) -> _Invalid:
        """Note what is wrong with a key."""
        self.problems.append(self._origin.problem(key, message))
        return INVALID

    def table(
        self, kind: type[S], table: Mapping[str, Any], key: str, *, also: Iterable[str] = ()
    ) -> S | _Invalid:
        """Convert a table to its options type.

        Args:
            kind: The options type.
            table: The table as it was read.
            key: Dotted key of the table.
            also: Keys that somebody else converts.
        """
        count = len(self.problems)
        values = self.fields(kind, table, key, also=also)
        try:
            return kind(**values)
        except ConfigError as error:  # a check of the type's own that names the key
            self.problem(join_key(key, error.key) if error.key else key, error.message)
        except (TypeError, ValueError) as error:
            if len(self.problems) == count:  # else a consequence of what was said already
                self.problem(key, str(error))
        return INVALID

    def fields(
        self,
        kind: type[msgspec.Struct],
        table: Mapping[str, Any],
        key: str,
        *,
        also: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Convert the values of a table; those with a problem are absent."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        known = {*fields, *also}
        for name in table:
            if name not in known:
                self.problem(join_key(key, name), f"unknown key{suggestion(name, known)}")
        values = {}
        for name, field in fields.items():
            if name in table:
                value = self.value(field.type, table[name], join_key(key, name), {})
                if value is not INVALID:
                    values[field.name] = value
            elif field.required:
                self.problem(join_key(key, name), "is required")
        return values

    def value(
        self,
        annotation: TypeForm,
        raw: Value,
        key: str,
        inherited: Mapping[str, Any],
    ) -> Value:
        """Convert one value, expanding the environment in strings."""
        metas = unwrap(annotation)[1]
        extra = {**inherited, **extras(metas)}
        if description := describe(metas):
            extra["description"] = description
        if extra.get("commands") and raw and (message := self._origin.untrusted(key)):
            return self.problem(key, message)
        if not isinstance(raw, str) or "${" not in raw or extra.get("verbatim"):
            return self._convert(annotation, raw, key, extra)
        try:
            text = expand(raw, self._environ)
        except ValueError as error:
            return self.problem(key, str(error))
        self.from_environment.add(key)
        # The text may stand for a number or an array: "${RETRIES:-3}" where no string fits.
        count = len(self.problems)
        value = self._convert(annotation, text, key, extra)
        if value is INVALID and (meant := toml_or_text(text)) != text:
            del self.problems[count:]
            value = self._convert(annotation, meant, key, extra)
        return value

    def _convert(
        self,
        annotation: TypeForm,
        raw: Value,
        key: str,
        extra: Mapping[str, Any],
    ) -> Value:
        kind, metas = unwrap(annotation)
        if is_struct(kind):
            shorthand = getattr(kind, "shorthand", None)
            if shorthand is not None and not isinstance(raw, dict):
                return self.table(kind, {shorthand: raw}, key)
            if not isinstance(raw, dict):
                return self.problem(key, f"expected a table, got {kind_of(raw)}")
            return self.table(kind, raw, key)
        if (element := element_type(kind)) is not None:
            return self._array(origin_of(kind), element, metas, raw, key, extra)
        if origin_of(kind) is dict:
            return self._map(get_args(kind)[1], raw, key, extra)
        return self._leaf(kind, metas, raw, key, extra)

    def _array(
        self,
        container: TypeForm,
        element: TypeForm,
        metas: list[msgspec.Meta],
        raw: Value,
        key: str,
        extra: Mapping[str, Any],
    ) -> Value:
        if not isinstance(raw, list):
            example = f': write ["{raw}"]' if isinstance(raw, str) else ""
            return self.problem(key, f"expected an array, got {kind_of(raw)}{example}")
        for meta in metas:
            if meta.min_length is not None and len(raw) < meta.min_length:
                return self.problem(key, f"expected at least {meta.min_length} elements")
            if meta.max_length is not None and len(raw) > meta.max_length:
                return self.problem(key, f"expected at most {meta.max_length} elements")
        values = [
            self.value(element, value, f"{key}[{index}]", extra) for index, value in enumerate(raw)
        ]
        return INVALID if INVALID in values else container(values)

    def _map(
        self,
        element: TypeForm,
        raw: Value,
        key: str,
        extra: Mapping[str, Any],
    ) -> Value:
        if not isinstance(raw, dict):
            return self.problem(key, f"expected a table, got {kind_of(raw)}")
        values = {
            name: self.value(element, value, join_key(key, name), extra)
            for name, value in raw.items()
        }
        return INVALID if INVALID in values.values() else values

    def _leaf(
        self,
        kind: TypeForm,
        metas: list[msgspec.Meta],
        raw: Value,
        key: str,
        extra: Mapping[str, Any],
    ) -> Value:
        if (reader := READERS.get(kind)) is not None:
            try:
                return reader(raw)
            except ValueError as error:
                return self.problem(key, str(error))
        try:
            value = msgspec.convert(raw, annotated(kind, metas))
        except msgspec.ValidationError as error:
            message = str(error)
            if (at := _AT.search(message)) is not None:  # inside a leaf that is a union of arrays
                key += at["path"]
                message = message[: at.start()]
            shown = "***" if extra.get("secret") else raw
            return self.problem(key, _reworded(message, kind, shown, extra.get("description", "")))
        if extra.get("path") and isinstance(value, str) and value:
            return str(self._origin.directory(key) / value)
        return value


def _reworded(message: str, kind: TypeForm, raw: object, description: str) -> str:
    """What msgspec says, in TOML's words."""
    if message.startswith("Invalid enum value"):
        words, literals = expectations(kind)
        listed = " or ".join([*(f'"{literal}"' for literal in literals), *words])
        return f'expected {listed}, got "{raw}"{suggestion(str(raw), literals)}'
    if " matching regex " in message and description:
        return f'"{raw}" does not fit: {description}'

    def name(match: re.Match[str]) -> str:
        return " or ".join(WORDS.get(part, part) for part in match[1].split(" | "))

    return message[:1].lower() + _QUOTED.sub(name, message[1:])
