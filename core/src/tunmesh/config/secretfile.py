"""The file of the mesh secrets, and the three steps by which a secret is changed without an outage.

::

    add      old            old, new        every node accepts both, sessions begin with the old one
    use      old, new       new | old       … sessions begin with the new one
    retire   new | old      new             the old one is of no use any more

Each step is done on all nodes before the next one. One secret a line; an empty line, which readers
of the file skip, stands behind a secret that `use` has put first: so that doing a step twice does
no harm.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tunmesh.errors import ConfigError

_KEY = "mesh.secret_file"


@dataclass(frozen=True)
class SecretFile:
    """What such a file holds.

    Attributes:
        secrets: In the order of the lines.
        settled: Whether the first one was put there by `use`, or is the only one.
    """

    secrets: tuple[str, ...]
    settled: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a file; empty lines in other places are of no account."""
        lines = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]
        secrets = tuple(line for line in lines if line)
        return cls(secrets, len(secrets) < 2 or (bool(lines[0]) and not lines[1]))

    def text(self) -> str:
        """The text of the file."""
        mark = [""] if self.settled and len(self.secrets) > 1 else []
        return "".join(f"{line}\n" for line in (*self.secrets[:1], *mark, *self.secrets[1:]))

    def add(self, secret: str) -> SecretFile:
        """Accept one more secret."""
        if secret in self.secrets:
            return self
        if len(self.secrets) > 1:
            raise ConfigError(
                "a change of secrets is under way: finish it with --use and --retire", key=_KEY
            )
        return SecretFile((*self.secrets, secret), settled=False)

    def use(self) -> SecretFile:
        """Begin sessions with the newest secret, which is the last one."""
        if self.settled:
            return self
        return SecretFile((self.secrets[-1], *self.secrets[:-1]), settled=True)

    def retire(self) -> SecretFile:
        """Accept the first secret only."""
        if not self.settled:
            raise ConfigError("the new secret is not in use yet: --use comes first", key=_KEY)
        return SecretFile(self.secrets[:1], settled=True)


def replace_file(path: Path, text: str) -> None:
    """Replace a file by one of the same owner and mode, at once and for good.

    Raises:
        OSError: That failed; the file is what it was.
    """
    path = path.resolve()  # not the link that leads there
    status = path.stat()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
