"""What annotations of options say: the type, its bounds, its description. Converts nothing."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import msgspec

#: What may stand in an annotation.
TypeForm: TypeAlias = Any

#: What users call the types, by the names that msgspec has for them.
WORDS = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "object": "a table",
    "str": "a string",
}


def origin_of(kind: TypeForm) -> TypeForm:
    """What a generic type is made from, as `typing.get_origin`; without its overloads."""
    return get_origin(kind)


def unwrap(annotation: TypeForm) -> tuple[Any, list[msgspec.Meta]]:
    """The type inside ``Annotated`` and beside ``None``, and what is annotated.

    TOML has no null: a value that may be None is one that may be absent.
    """
    metas = []
    if origin_of(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metas = [meta for meta in more if isinstance(meta, msgspec.Meta)]
    if origin_of(annotation) in {Union, UnionType}:
        parts = [part for part in get_args(annotation) if part is not NoneType]
        annotation = functools.reduce(operator.or_, parts)
    return annotation, metas


def annotated(kind: TypeForm, metas: Iterable[msgspec.Meta]) -> TypeForm:
    """The reverse of `unwrap`."""
    for meta in metas:
        kind = Annotated[kind, meta]
    return kind


def extras(metas: Iterable[msgspec.Meta]) -> dict[str, Any]:
    """The ``extra`` keys of all annotations together."""
    return {key: value for meta in metas for key, value in (meta.extra or {}).items()}


def describe(metas: Iterable[msgspec.Meta]) -> str:
    """The description among annotations, empty if there is none."""
    return next((meta.description for meta in metas if meta.description), "")


def is_struct(kind: TypeForm) -> bool:
    """Whether a type is a table of options."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def holds_tables(annotation: TypeForm) -> bool:
    """Whether a type is a table of tables with names of the user's choice."""
    kind = unwrap(annotation)[0]
    return origin_of(kind) is dict and is_struct(unwrap(get_args(kind)[1])[0])


def element_type(kind: TypeForm) -> TypeForm:
    """The type of the elements, if a type is ``tuple[X, ...]`` or ``list[X]``, else None."""
    arguments = get_args(kind)
    if origin_of(kind) is list or (origin_of(kind) is tuple and arguments[1:] == (...,)):
        return arguments[0]
    return None


def expectations(kind: TypeForm) -> tuple[list[str], list[str]]:
    """The words for the types, and the literal strings, that a type allows."""
    if origin_of(kind) is Literal:
        return [], [value for value in get_args(kind) if isinstance(value, str)]
    if origin_of(kind) in {Union, UnionType}:
        words, literals = [], []
        for part in get_args(kind):
            more_words, more_literals = expectations(unwrap(part)[0])
            words += more_words
            literals += more_literals
        return words, literals
    name = getattr(kind, "__name__", str(kind))
    return [WORDS.get(name, name)], []
