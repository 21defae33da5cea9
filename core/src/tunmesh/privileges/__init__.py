"""What a process of Linux may do, and giving it up for good.

Imports nothing heavy: small helper processes use it as well. Everything here but `threads` is
about the calling thread, or about a process that has only one.
"""

from tunmesh.privileges.accounts import Account, acting_as, find_account, hand_over
from tunmesh.privileges.capabilities import (
    CAP_NET_ADMIN,
    Capabilities,
    capabilities,
    set_capabilities,
)
from tunmesh.privileges.process import (
    become,
    forbid_core_dumps,
    import_early,
    keep_only,
    lock_down,
)

__all__ = [
    "CAP_NET_ADMIN",
    "Account",
    "Capabilities",
    "acting_as",
    "become",
    "capabilities",
    "find_account",
    "forbid_core_dumps",
    "hand_over",
    "import_early",
    "keep_only",
    "lock_down",
    "set_capabilities",
]
