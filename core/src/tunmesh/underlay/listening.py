"""What addresses to listen on must be like, beyond what their pattern says."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tunmesh.errors import ConfigError


def check_listen(texts: Iterable[str], key: str = "listen") -> None:
    """Check the addresses and ports that an option holds, as ``0.0.0.0:4567`` or ``[::]:4567``.

    Meant for ``__post_init__`` of a transport's options.

    Args:
        texts: The values, each with a port; 0 stands for any.
        key: The option.

    Raises:
        ConfigError: With everything that is wrong with them.
    """
    problems = []
    seen = set()
    for text in texts:
        host, _, port = text.rpartition(":")
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            problems.append(f'"{text}" has no IP address')
        if int(port) > 65_535:
            problems.append(f'"{text}" has a port beyond 65535')
        if int(port) and text in seen:
            problems.append(f'"{text}" is named more than once')
        seen.add(text)
    if problems:
        raise ConfigError("; ".join(problems), key=key)
