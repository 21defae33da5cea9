"""The parts of the documentation that are made of the code, each time it is built.

A line ``<!-- generated: NAME -->`` in a page stands for such a part. Parts are Markdown; they are
made of the same types that the program itself reads its configuration and its arguments by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from docs.generated.commands import commands
from docs.generated.configuration import configuration
from docs.generated.limits import limits
from docs.generated.metrics import metrics
from docs.generated.results import results
from docs.generated.status import status

PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "configuration": configuration,
    "limits": limits,
    "metrics": metrics,
    "results": results,
    "status": status,
}

_PLACEHOLDER = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: There is no such part.
    """
    return _PLACEHOLDER.sub(lambda match: PARTS[match[1]](), text)
