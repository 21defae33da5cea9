"""Where the admin socket of a node is. Knows nothing of what is said on it."""

from __future__ import annotations

from pathlib import Path

from tunmesh.errors import AdminError

#: Directory of the admin sockets, unless the configuration names one.
RUN_DIRECTORY = Path("/run/tunmesh")


def socket_path(configured: str, device: str) -> Path:
    """The path of a node's admin socket.

    Args:
        configured: ``admin.socket``; may hold ``<device>``; empty for the default.
        device: Name of the node's TUN device.
    """
    if configured:
        return Path(configured.replace("<device>", device))
    return RUN_DIRECTORY / f"{device}.sock"


def only_socket(directory: Path = RUN_DIRECTORY) -> Path:
    """The admin socket of the only node of this host.

    Raises:
        AdminError: There is none, or more than one.
    """
    sockets = sorted(path for path in directory.glob("*.sock") if path.is_socket())
    if not sockets:
        raise AdminError(f"no node answers in {directory}: is tunmesh running?")
    if len(sockets) > 1:
        names = ", ".join(str(path) for path in sockets)
        raise AdminError(f"several nodes run here: choose one with --socket ({names})")
    return sockets[0]
