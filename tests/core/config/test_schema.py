from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tunmesh.config import Duration
from tunmesh.config.schema import schema
from tunmesh.config.types import Document


class More(msgspec.Struct, frozen=True):
    count: int = 1
    names: Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)] = ("a",)


class Options(msgspec.Struct, frozen=True):
    """Options of a test."""

    count: Annotated[int, Meta(ge=1, description="how many")] = 1
    name: str | None = None
    wait: Duration = Duration("1s")


DOCUMENT = schema({"x": [Options], "other": []})


def accepts(found: dict[str, Any], value: Any) -> bool:
    """The part of JSON Schema that is used here."""
    if "$ref" in found:
        found = DOCUMENT["$defs"][found["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in found:
        return any(accepts(one, value) for one in found["anyOf"])
    if "enum" in found:
        return value in found["enum"]
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "number": (int, float),
        "integer": (int,),
        "boolean": (bool,),
        "object": (dict,),
        "array": (list,),
    }
    if not isinstance(value, kinds[found["type"]]):
        return False
    if isinstance(value, str):
        return re.search(found.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return all(accepts(found["items"], element) for element in value)
    if isinstance(value, dict):
        properties, more = found.get("properties", {}), found.get("additionalProperties", {})
        return all(
            accepts(properties[name], element)
            if name in properties
            else more is not False and (not more or accepts(more, element))
            for name, element in value.items()
        )
    return bool(value >= found.get("minimum", value))


def test_it_is_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_it_has_every_key_with_description_and_default() -> None:
    sections = DOCUMENT["properties"]
    assert list(sections) == list(Document.__struct_fields__)
    for name in ("mesh", "node", "routing", "timing", "log", "admin"):
        section = sections[name]
        assert section["additionalProperties"] is False
        for key in getattr(Document(), name).__struct_fields__:
            assert section["properties"][key]["description"]
            assert "default" in section["properties"][key]


def test_plugins_have_tables() -> None:
    tables = DOCUMENT["properties"]["plugins"]
    assert tables["properties"].keys() == {"enabled", "x", "other"}
    assert tables["properties"]["other"] == {"type": "object"}
    assert tables["properties"]["x"]["properties"]["count"] == {
        "anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/environment"}],
        "description": "how many",
        "default": 1,
        "x-applies": "restart",
    }


def test_types_that_share_a_table() -> None:
    both = schema({"x": [Options, More]})["properties"]["plugins"]["properties"]["x"]
    assert both["properties"].keys() == {"count", "name", "wait", "names"}
    assert both["properties"]["count"]["description"] == "how many"
    (array, _environment) = both["properties"]["names"]["anyOf"]
    assert (array["minItems"], array["maxItems"]) == (1, 2)


def test_it_accepts_what_the_configuration_accepts() -> None:
    documents: tuple[dict[str, Any], ...] = (
        {},
        {"mesh": {"networks": ["10.0.0.0/8"], "eager_peers": "${N}"}},
        {"node": {"subnets": ["10.0.0.0/8", {"prefix": "10.0.0.0/8", "metric": 1}]}},
        {"bootstrap": {"a": {"urls": [], "interval": "10s..20s"}, "b": {"interval": 0.5}}},
        {"plugins": {"enabled": ["x"], "x": {"count": 2, "name": "a"}, "other": {"y": 1}}},
        {"log": {"level": "debug"}},
    )
    for good in documents:
        assert accepts(DOCUMENT, good), good


def test_it_refuses_what_the_configuration_refuses() -> None:
    documents: tuple[dict[str, Any], ...] = (
        {"mseh": {}},
        {"mesh": {"cipher": "rot13"}},
        {"mesh": {"eager_peers": 0}},
        {"mesh": {"networks": "10.0.0.0/8"}},
        {"bootstrap": {"a": {"interval": "soon"}}},
        {"plugins": {"x": {"count": "many"}}},
        {"plugins": {"y": {}}},
    )
    for bad in documents:
        assert not accepts(DOCUMENT, bad), bad
