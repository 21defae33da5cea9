"""Writes down the public surface in ``public_api.txt``: ``python -m tests.core.public_api``.

One line for each name that a plugin may use: classes with their bases, methods, fields; functions
with their signatures, constants with their values, hooks with their arguments.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tunmesh import hookspecs

#: Where it stands.
FROZEN = Path(__file__).with_name("public_api.txt")
#: What plugins may import; the contract "Plugins use the public modules only" forbids the rest.
MODULES = (
    "tunmesh.plugin",
    "tunmesh.errors",
    "tunmesh.interfaces",
    "tunmesh.testing",
    "tunmesh.packet",
    "tunmesh.offload",
    "tunmesh.underlay",
    "tunmesh.admin.client",
    "tunmesh.admin.status",
)
#: Special methods that are part of how a class is used.
_SPECIAL = frozenset({"__init__", "__aenter__", "__aexit__", "__enter__", "__exit__"})
#: What these make is not written by anybody.
_GENERATED = "<string>"
_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its ``__all__``, or what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", module.__name__) == module.__name__
        and name != "annotations"
    )


def public_modules() -> Iterator[ModuleType]:
    """The modules, and those of the interfaces, which have names that are not exported above."""
    for name in MODULES:
        module = importlib.import_module(name)
        yield module
        if name == "tunmesh.interfaces":
            for found in pkgutil.iter_modules(module.__path__, f"{name}."):
                yield importlib.import_module(found.name)


def lines() -> list[str]:
    """The public surface, one name a line."""
    written: dict[str, None] = {}
    for module in public_modules():
        for name in public_names(module):
            value = getattr(module, name)
            here = f"{module.__name__}.{name}"
            home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
            if home not in (here, ".") and isinstance(value, (type, FunctionType)):
                written[f"{here} = {home}"] = None
                here = home
            written.update(dict.fromkeys(_describe(here, value)))
    for name, value in vars(hookspecs).items():
        if name.startswith("tunmesh_"):
            written[f"hook {name}{signature(value)}"] = None
    return sorted(written)


def _describe(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, type):
        yield from _describe_class(name, value)
    elif isinstance(value, FunctionType):
        yield f"{_kind(value)}{name}{signature(value)}"
    elif isinstance(value, (bool, int, float, str, bytes, frozenset)):
        yield f"{name} = {_plain(value)}"
    else:  # an alias of a type, or a marker
        text = str(value)
        yield f"{name}: {type(value).__name__ if ' at 0x' in text else text}"


def _describe_class(name: str, cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {name}({bases})"
    annotations = vars(cls).get("__annotations__", {})
    for field, annotation in annotations.items():
        if not field.startswith("_"):
            default = vars(cls).get(field, inspect.Parameter.empty)
            has_one = default is not inspect.Parameter.empty and not inspect.isdatadescriptor(
                default
            )
            yield f"{name}.{field}: {_type(annotation)}{f' = {_plain(default)}' if has_one else ''}"
    for member, value in vars(cls).items():
        if member.startswith("_") and member not in _SPECIAL:
            continue
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(plain, FunctionType):
            if plain.__code__.co_filename != _GENERATED:
                yield f"{_kind(plain)}{name}.{member}{signature(plain)}"
        elif isinstance(value, property):
            assert isinstance(value.fget, FunctionType)
            returned = value.fget.__annotations__.get("return", "Any")
            yield f"{_kind(value.fget)}property {name}.{member}: {_type(returned)}"


def _kind(function: FunctionType) -> str:
    abstract = "abstract " if getattr(function, "__isabstractmethod__", False) else ""
    return abstract + ("async " if inspect.iscoroutinefunction(function) else "")


def signature(function: FunctionType) -> str:
    """The arguments of a function and what it returns, the same with every Python."""
    parameters: list[str] = []
    seen: set[Any] = set()
    found = inspect.signature(function)
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not seen & {
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        }:
            parameters.append("*")
        seen.add(parameter.kind)
        text = _STARS.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {_type(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_plain(parameter.default)}"
        parameters.append(text)
    returned = found.return_annotation
    arrow = "" if returned is found.empty else f" -> {_type(returned)}"
    return f"({', '.join(parameters)}){arrow}"


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return str(text).strip("'\"")


def _plain(value: Any) -> str:
    if isinstance(value, frozenset):
        items: Iterable[str] = sorted(map(repr, value))
        return f"{{{', '.join(items)}}}"
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text


if __name__ == "__main__":
    FROZEN.write_text("".join(f"{line}\n" for line in lines()))
