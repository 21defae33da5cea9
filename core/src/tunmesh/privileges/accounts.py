"""The user that a process turns into, and what has to belong to that user before."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunmesh.errors import ConfigError
from tunmesh.privileges.capabilities import CAP_SETGID, CAP_SETUID, capabilities

_KEY = "node.user"
_NEEDED = 1 << CAP_SETUID | 1 << CAP_SETGID


@dataclass(frozen=True)
class Account:
    """A user.

    Attributes:
        name: As it was written in the configuration.
        uid: The user's number.
        gid: The number of the user's own group.
    """

    name: str
    uid: int
    gid: int

    @property
    def current(self) -> bool:
        """Whether this process runs as that user already."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


def find_account(name: str) -> Account:
    """The user that ``node.user`` names, by a name or a number.

    A number that no user has gets a group of the same number, as containers want it.

    Raises:
        ConfigError: There is none, or this process cannot become that user.
    """
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError as error:
        if not name.isdecimal():
            raise ConfigError(f'there is no user "{name}"', key=_KEY) from error
        account = Account(name, int(name), int(name))
    else:
        account = Account(name, entry.pw_uid, entry.pw_gid)
    if not account.current and capabilities().effective & _NEEDED != _NEEDED:
        raise ConfigError(
            f'cannot become "{name}" without CAP_SETUID and CAP_SETGID: run as root, '
            "or leave it empty",
            key=_KEY,
        )
    return account


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Make and open files as that user; for a process with one thread.

    Args:
        account: None, or the current one, to change nothing.
    """
    if account is None or account.current:
        yield
        return
    uid, gid = os.geteuid(), os.getegid()
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)


def hand_over(directory: Path, account: Account) -> None:
    """Give a directory of this process's user, and the files in it, to the user that it turns into.

    It is made if it is absent. One that is somebody else's already is left alone, and one that
    others can write, too: who knows what they have put there.

    Raises:
        OSError: It cannot be made or given away.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if account.current or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return
        for name in os.listdir(fd):  # noqa: PTH208  # of what was opened, not of a name
            file = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(file.st_mode) and file.st_uid == status.st_uid and file.st_nlink == 1:
                os.chown(name, account.uid, account.gid, dir_fd=fd, follow_symlinks=False)
        os.fchown(fd, account.uid, account.gid)
    finally:
        os.close(fd)
