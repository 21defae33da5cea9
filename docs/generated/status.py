"""The status document, made of its types."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

import msgspec

from docs.generated.sources import prose
from tunmesh.admin.status import Status
from tunmesh.config.forms import TypeForm, is_struct, origin_of


def status() -> str:
    """The objects of the status document, each field with its type."""
    lines: list[str] = []
    pending: list[tuple[str, type[msgspec.Struct]]] = [("", Status)]
    for path, kind in pending:  # grows meanwhile
        summary = prose((kind.__doc__ or "").strip()).replace("None if", "null if")
        lines += [f"## {path}" if path else "## The whole", "", summary, ""]
        lines += ["| field | type |", "| --- | --- |"]
        for field in msgspec.structs.fields(kind):
            text, inner, brackets = _json_type(field.type)
            lines.append(f"| `{field.encode_name}` | {text} |")
            if inner is not None:
                pending.append((f"{path}.{field.encode_name}{brackets}".lstrip("."), inner))
        lines.append("")
    return "\n".join(lines)


def _json_type(annotation: TypeForm) -> tuple[str, type[msgspec.Struct] | None, str]:
    """What a field is in JSON; the struct in it, and the brackets that lead there."""
    if origin_of(annotation) is UnionType:
        return " or ".join(_json_type(part)[0] for part in get_args(annotation)), None, ""
    if is_struct(annotation):
        return "object", annotation, ""
    if origin_of(annotation) is tuple:
        text, inner, brackets = _json_type(get_args(annotation)[0])
        return f"array of {text}s", inner, f"[]{brackets}"
    if origin_of(annotation) is dict:
        text, inner, brackets = _json_type(get_args(annotation)[1])
        return f"object of {text}s by name", inner, f".NAME{brackets}"
    return _JSON[annotation], None, ""


_JSON: Mapping[Any, str] = {
    bool: "boolean",
    float: "number",
    int: "integer",
    str: "string",
    type(None): "null",
}
