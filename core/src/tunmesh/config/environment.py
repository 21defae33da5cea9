"""``${NAME}`` in the strings of a configuration. Knows nothing of TOML."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{"
)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace ``${NAME}`` and ``${NAME:-default}``; ``$${`` stands for a literal ``${``.

    As in a shell, the default also replaces an empty value. What was inserted is not expanded
    again.

    Raises:
        ValueError: A variable is not set and has no default, or a reference is malformed.
    """

    def replace(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        name, default = match["name"], match["default"]
        if name is None or (default is not None and "${" in default):
            raise ValueError(
                "malformed reference to the environment: "
                "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"
            )
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ValueError(
                f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}"
            )
        return value

    return _REFERENCE.sub(replace, text)
