"""Finds what must not be told, and whether it was."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

#: Attributes with bytes that may be known.
_PUBLIC = re.compile(r"public|_id$|boot|hash|token|signature")
#: A JSON Web Token, or the beginning of one.
_TOKEN = re.compile(r"eyJ[\w-]{16,}")


def key_material(roots: Iterable[object]) -> set[bytes]:
    """The bytes that objects of `tunmesh.identity` and `tunmesh.session` hold, but public ones."""
    found: set[bytes] = set()
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        thing = pending.pop()
        module = type(thing).__module__
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            pending += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            pending += thing
        elif module.startswith("tunmesh"):
            secretive = module.startswith(("tunmesh.identity", "tunmesh.session"))
            for name, value in attributes(thing):
                if isinstance(value, bytes | bytearray):
                    if secretive and len(value) >= 16 and not _PUBLIC.search(name):
                        found.add(bytes(value))
                else:
                    pending.append(value)
    return found


def attributes(thing: object) -> Iterable[tuple[str, object]]:
    """The attributes of an object, in its dictionary or its slots."""
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def leaks(text: str, keys: Iterable[bytes]) -> list[str]:
    """What a text tells of the keys, in any of the usual forms, and tokens."""
    found = _TOKEN.findall(text)
    lower = text.lower()
    for key in keys:
        forms = {
            base64.b64encode(key).decode().rstrip("="),
            base64.urlsafe_b64encode(key).decode().rstrip("="),
            repr(key)[2:-1],
        }
        found += [form for form in forms if form in text]
        if key.hex() in lower:
            found.append(key.hex())
    return found
