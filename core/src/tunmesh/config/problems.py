"""What is wrong with a configuration: problems with their keys, and where each key came from."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tunmesh.errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: One line, without the key.
        key: Dotted path of the key, empty for the file as a whole.
        path: The file, or the command-line option, that holds it.
    """

    message: str
    key: str = ""
    path: str = ""

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.path, self.key, self.message) if part)
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # on one line


class ConfigErrors(ConfigError):
    """Everything that is wrong with a configuration.

    Attributes:
        problems: One line each: file, dotted key, message.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        self.problems = [str(problem) for problem in found]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Origin:
    """Where the values of a configuration came from.

    Attributes:
        path: The configuration file as it was named, empty if there is none.
        overrides: Dotted keys that the command line gave, with the option that gave them.
    """

    path: str = ""
    overrides: dict[str, str] = field(default_factory=dict)

    def directory(self, key: str) -> Path:
        """What a relative file name under a key is relative to."""
        if self.path and not self.override(key):
            return Path(self.path).absolute().parent
        return Path.cwd()

    def override(self, key: str) -> str:
        """The command-line option that gave a key, empty if none did."""
        for name, option in self.overrides.items():
            if key == name or key.startswith((f"{name}.", f"{name}[")):
                return option
        return ""

    def untrusted(self, key: str) -> str:
        """Why commands under a key must not be run, empty if they may be.

        Whoever starts the node may have it run anything; not so others who can write its file.
        """
        if not self.path or self.override(key):
            return ""
        try:
            status = Path(self.path).stat()
        except OSError as error:
            return f"runs commands, but the file cannot be examined: {error.strerror}"
        if status.st_uid not in {0, os.geteuid()}:
            return "runs commands, but the file belongs to another user: give it to root"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"runs commands, but others can write the file: chmod go-w {self.path}"
        return ""

    def problem(self, key: str, message: str) -> Problem:
        """A problem with a key, named with the file or the option that holds the key."""
        return Problem(message, key, self.override(key) or self.path)


def join_key(table: str, name: str) -> str:
    """The dotted key of `name` inside `table`, quoted where TOML wants quotes."""
    quoted = name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
    return f"{table}.{quoted}" if table else quoted


def suggestion(name: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` for the nearest known name, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {nearest[0]}?" if nearest else ""
