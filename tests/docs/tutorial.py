"""Reads a tutorial as its reader does: which commands to run and which files to write, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Commands(NamedTuple):
    """What the reader types."""

    lines: tuple[str, ...]


class Edit(NamedTuple):
    """What the reader writes into a file.

    Attributes:
        path: The file, relative to where the reader is.
        below: The line below which it comes, after an empty one; empty: it is the whole file.
        text: What it is.
    """

    path: str
    below: str
    text: str

    def apply(self, directory: Path) -> None:
        """Do it."""
        target = directory / self.path
        if not self.below:
            target.write_text(self.text)
            return
        before, line, after = target.read_text().partition(f"{self.below}\n")
        assert line, f"{self.path} has no line {self.below!r}"
        target.write_text(f"{before}{line}\n{self.text}{after}")


Step: TypeAlias = Commands | Edit

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The end of the sentence above a block that is a file.
_FILE = re.compile(r"In `([^`]+)`(?:, below the line `([^`]+)` and an empty one)?:\n\n$")


def steps(text: str) -> Iterator[Step]:
    """The steps of a page: its blocks of commands, and the files that it tells to write."""
    for block in _BLOCK.finditer(text):
        language, content = block[1], block[2]
        if language == "console":
            lines = content.splitlines()
            assert all(line.startswith("$ ") for line in lines), content
            yield Commands(tuple(line.removeprefix("$ ") for line in lines))
        elif found := _FILE.search(text[: block.start()].replace("\n`", " `")):
            yield Edit(found[1], found[2] or "", content)
