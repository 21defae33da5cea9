"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from tunmesh.config.applies import applies
from tunmesh.config.forms import (
    TypeForm,
    annotated,
    describe,
    element_type,
    holds_tables,
    is_struct,
    origin_of,
    unwrap,
)
from tunmesh.config.scalars import SCHEMAS
from tunmesh.config.toml import plain
from tunmesh.config.types import Document

_ENVIRONMENT = {"$ref": "#/$defs/environment"}


def schema(plugins: Mapping[str, Sequence[type[msgspec.Struct]]]) -> dict[str, Any]:
    """The schema of a whole configuration.

    Args:
        plugins: The options types of each plugin; none where they are not known.
    """
    document = _of_structs([Document])
    tables = document["properties"]["plugins"]["properties"]
    del tables["tables"]  # each of them stands beside "enabled"
    for name, kinds in plugins.items():
        tables[name] = _of_structs(kinds) if kinds else {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tunmesh",
        **document,
        "$defs": {
            "environment": {
                "type": "string",
                "pattern": r"\$\{",
                "description": "Any string may hold ${NAME} or ${NAME:-default}.",
            }
        },
    }


def _of_structs(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schema of a table; of one that several types share, if there are several."""
    kinds = list(kinds)
    properties: dict[str, Any] = {}
    required = []
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            if field.encode_name in properties:
                continue
            properties[field.encode_name] = found = _of(field.type)
            inner = unwrap(field.type)[0]
            if not is_struct(inner) and not holds_tables(inner):  # those stand at their own keys
                found["x-applies"] = applies(kind, field)
            default = None if field.default is msgspec.NODEFAULT else field.default
            if field.default_factory is dict:  # what an empty table as a default becomes
                default = {}
            if field.required:
                required.append(field.encode_name)
            elif default is not None and not isinstance(default, msgspec.Struct):
                found["default"] = plain(default)  # those of a table stand at its own keys
    result: dict[str, Any] = {"type": "object"}
    if summary := (kinds[0].__doc__ or "").strip().partition("\n")[0]:
        result["description"] = summary
    result |= {"properties": properties, "additionalProperties": False}
    if required:
        result["required"] = required
    return result


def _of(annotation: TypeForm) -> dict[str, Any]:
    kind, metas = unwrap(annotation)
    if is_struct(kind):
        result = _of_structs([kind])
        shorthand = getattr(kind, "shorthand", None)
        if shorthand is not None:
            fields = {field.name: field for field in msgspec.structs.fields(kind)}
            result = {"anyOf": [_of(fields[shorthand].type), result]}
    elif (element := element_type(kind)) is not None:
        array: dict[str, Any] = {"type": "array", "items": _of(element)}
        for meta in metas:
            if meta.min_length is not None:
                array["minItems"] = meta.min_length
            if meta.max_length is not None:
                array["maxItems"] = meta.max_length
        result = {"anyOf": [array, _ENVIRONMENT]}
    elif origin_of(kind) is dict:
        result = {"type": "object", "additionalProperties": _of(get_args(kind)[1])}
    else:  # a single value
        result = dict(SCHEMAS.get(kind) or msgspec.json.schema(annotated(kind, metas)))
        result.pop("description", None)
        if result != {"type": "string"}:
            result = {"anyOf": [*(result.get("anyOf") or [result]), _ENVIRONMENT]}
    if description := describe(metas):
        result["description"] = description
    return result
