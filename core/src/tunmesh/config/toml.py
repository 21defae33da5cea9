"""Values to TOML 1.0 text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tunmesh.config.problems import join_key


def plain(value: object) -> Any:  # noqa: ANN401  # any TOML value
    """A converted value as the TOML value that it was, or could have been, read from."""
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return [plain(element) for element in value]
    if isinstance(value, Mapping):
        return {name: plain(element) for name, element in value.items()}
    if isinstance(value, msgspec.Struct):
        return _plain_struct(value)
    return str(value)  # durations, addresses, prefixes, dates


def _plain_struct(value: msgspec.Struct) -> Any:  # noqa: ANN401  # any TOML value
    fields = msgspec.structs.fields(value)
    table = {field.encode_name: getattr(value, field.name) for field in fields}
    shorthand = getattr(value, "shorthand", None)
    if shorthand is not None:
        alone = type(value)(**{shorthand: getattr(value, shorthand)})
        if alone == value:
            return plain(table[shorthand])
    return {name: plain(element) for name, element in table.items() if element is not None}


def toml_value(value: object) -> str:
    """A value of plain types as TOML text, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)  # inf and nan are TOML, too
    if isinstance(value, list):
        return f"[{', '.join(toml_value(element) for element in value)}]"
    if isinstance(value, dict):
        pairs = (f"{join_key('', name)} = {toml_value(element)}" for name, element in value.items())
        return f"{{{', '.join(pairs)}}}"
    return toml_string(str(value))


def toml_string(text: str) -> str:
    """A basic string. JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
