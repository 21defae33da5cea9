"""What a changed value of each key takes: nothing but a reload, new sessions, or a restart."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from tunmesh.config.forms import extras, unwrap

Applies: TypeAlias = Literal["live", "reconnect", "restart"]

CLASSES: Final[tuple[str, ...]] = get_args(Applies)


def applies(table: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Applies:
    """What a changed value of a key takes.

    That is what the annotation of the key says, or else its table; ``restart`` if neither does, as
    for the options of plugins that know nothing of this.

    Args:
        table: The options type.
        field: One of its fields.
    """
    of_table: Applies = getattr(table, "applies", "restart")
    found: Applies = extras(unwrap(field.type)[1]).get("applies", of_table)
    return found
