"""Finding the endpoints of a URL, which is the transport's affair and may take a while."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from tunmesh.errors import EndpointError

if TYPE_CHECKING:
    from tunmesh.culprits import Culprits
    from tunmesh.interfaces import Transport

log = logging.getLogger(__name__)

#: A name in a URL is resolved within this time.
_TIMEOUT = 10.0


async def look_up(
    culprits: Culprits, transport: Transport, url: str, found: Callable[[tuple[str, ...]], None]
) -> None:
    """Ask a transport for the endpoints of a URL, and tell them; none if that failed."""
    endpoints: tuple[str, ...] = ()
    try:
        with anyio.fail_after(_TIMEOUT):
            endpoints = await transport.resolve(url)
    except (EndpointError, TimeoutError) as error:
        log.warning("bootstrap url failed url=%s error=%s", url, error)
    except Exception:
        # Foreign code: a URL that it fails on must not end the node.
        log.exception("plugin failed plugin=%s url=%s", transport.name, url)
    try:
        found(endpoints)
    except Exception as error:
        # It sends at once, and that is foreign code again; the URL is tried again in time.
        plugin = culprits.of_error(error).plugin
        log.exception("plugin failed plugin=%s url=%s", plugin, url)
