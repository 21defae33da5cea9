from __future__ import annotations

from typing import Annotated, Any, ClassVar, get_args

import msgspec
import pytest
from msgspec import Meta

from tunmesh.config.applies import CLASSES, Applies, applies
from tunmesh.config.forms import extras, is_struct, origin_of, unwrap
from tunmesh.config.render import example
from tunmesh.config.schema import schema
from tunmesh.config.types import Document


class Table(msgspec.Struct, frozen=True):
    applies: ClassVar[Applies] = "live"

    plain: int = 1
    own: Annotated[int, Meta(extra={"applies": "reconnect"})] = 1


class Silent(msgspec.Struct, frozen=True):
    plain: int = 1


def fields_of(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


def test_a_key_is_of_the_class_that_it_names_or_else_of_that_of_its_table() -> None:
    assert applies(Table, fields_of(Table)["plain"]) == "live"
    assert applies(Table, fields_of(Table)["own"]) == "reconnect"
    assert applies(Silent, fields_of(Silent)["plain"]) == "restart"


def keys(kind: type[msgspec.Struct]) -> list[tuple[type[msgspec.Struct], Any]]:
    """Every key of the core, with its table."""
    found: list[tuple[type[msgspec.Struct], Any]] = []
    for field in msgspec.structs.fields(kind):
        inner = unwrap(field.type)[0]
        if origin_of(inner) is dict:
            inner = unwrap(get_args(inner)[1])[0]
        found += keys(inner) if is_struct(inner) else [(kind, field)]
    return found


@pytest.mark.parametrize(
    ("table", "field"),
    [pytest.param(*key, id=f"{key[0].__name__}.{key[1].name}") for key in keys(Document)],
)
def test_every_key_of_the_core_says_what_a_change_takes(
    table: type[msgspec.Struct], field: msgspec.structs.FieldInfo
) -> None:
    said = extras(unwrap(field.type)[1]).get("applies") or getattr(table, "applies", None)
    assert said in CLASSES


def test_the_example_shows_it_at_every_key() -> None:
    lines = example([], []).splitlines()
    for index, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[index - 1].endswith(tuple(f"({name})" for name in CLASSES)), line


def test_the_schema_shows_it_at_every_key() -> None:
    tables = schema({"x": [Table]})["properties"]
    for name, table in tables.items():
        properties = table["properties"] if "properties" in table else table["additionalProperties"]
        for key, found in properties.items():
            if name != "plugins" or key == "enabled":
                assert name == "bootstrap" or found["x-applies"] in CLASSES, (name, key)
    assert tables["bootstrap"]["additionalProperties"]["properties"]["urls"]["x-applies"] == "live"
    assert tables["plugins"]["properties"]["x"]["properties"]["own"]["x-applies"] == "reconnect"
