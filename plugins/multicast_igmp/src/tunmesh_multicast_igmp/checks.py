"""What ``tunmesh doctor`` looks at for multicast."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunmesh.plugin import Finding, HostView

_AVAHI = "/etc/avahi/avahi-daemon.conf"
_KEY = "allow-point-to-point"
_YES = re.compile(rf"^\s*{_KEY}\s*=\s*yes\s*$", re.MULTILINE)
_MEND = f"sed -i 's/^.*{_KEY}=.*/{_KEY}=yes/' {_AVAHI} && systemctl restart avahi-daemon"


def check(host: HostView) -> Iterator[Finding]:
    """Everything about multicast."""
    text = host.read(_AVAHI)
    if text is None:
        return
    if _YES.search(text):
        yield Finding("avahi", "ok", "avahi uses devices such as the tunnel's")
    else:
        yield Finding("avahi", "warning", "avahi ignores point-to-point devices: no mDNS", _MEND)
