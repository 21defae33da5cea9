"""Giving up privileges, in the order in which it must be done."""

from __future__ import annotations

import importlib
import os
import resource

from tunmesh.privileges.accounts import Account
from tunmesh.privileges.capabilities import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    empty_bounding_set,
    prctl,
    set_capabilities,
)

#: What Python itself imports when it is first needed.
_LATE = ("encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.unicode_escape")


def import_early() -> None:
    """Import what would be imported late: then the files may be out of the other user's reach.

    So it is where the interpreter or a virtual environment lies in a home directory.
    """
    for name in _LATE:
        importlib.import_module(name)


def forbid_core_dumps() -> None:
    """Keep what is in memory, keys above all, from being written to a file when all goes wrong."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def lock_down() -> None:
    """Make sure that this thread never gains a privilege any more; it keeps those it has."""
    empty_bounding_set()
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def become(account: Account) -> None:
    """Turn the whole process into that user's, with no other groups.

    Raises:
        OSError: The kernel refused.
    """
    try:
        os.setgroups([])
    except PermissionError:
        if not account.current:  # else nothing is given up, as in a user namespace of one user
            raise
    if not account.current:
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)


def keep_only(mask: int, account: Account) -> None:
    """Turn a process with one thread into that user's, with just these capabilities for good.

    Raises:
        OSError: The kernel refused; the process must not go on.
    """
    forbid_core_dumps()
    prctl(PR_SET_KEEPCAPS, 1)
    lock_down()
    become(account)
    set_capabilities(mask)
    clear_ambient()
    make_private()


def clear_ambient() -> None:
    """Give programs that this thread starts no capabilities."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def make_private() -> None:
    """Keep other processes, of the same user too, from reading this one's memory."""
    prctl(PR_SET_DUMPABLE, 0)
