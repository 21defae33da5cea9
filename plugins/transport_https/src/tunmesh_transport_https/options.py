"""The table ``[plugins.https]``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tunmesh.underlay import check_listen

DEFAULT_LISTEN = ("0.0.0.0:4443", "[::]:4443")
_LITERAL = r"^(\d+\.\d+\.\d+\.\d+|\[[^\[\]]+\]):\d{1,5}$"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.https]``."""

    listen: Annotated[
        tuple[Annotated[str, Meta(pattern=_LITERAL)], ...],
        Meta(
            description="addresses and ports to listen on, as 0.0.0.0:4443 or [::]:4443; "
            "empty: do not listen, only dial others",
        ),
    ] = DEFAULT_LISTEN
    cert_file: Annotated[
        str,
        Meta(
            description="certificate chain in PEM, read again when it changes; "
            "empty: a self-made one, pinned by the peers",
            extra={"path": True},
        ),
    ] = ""
    key_file: Annotated[
        str,
        Meta(
            description="private key in PEM; empty: it is in cert_file",
            extra={"path": True},
        ),
    ] = ""
    external_cert_file: Annotated[
        str,
        Meta(
            description="certificates in PEM that peers see instead of this node's, "
            "where a reverse proxy or load balancer ends TLS",
            extra={"path": True},
        ),
    ] = ""
    ca_file: Annotated[
        str,
        Meta(
            description="authorities in PEM that must have signed the certificates of others; "
            "empty: those are bound by the tokens alone, unless verify_hostname",
            extra={"path": True},
        ),
    ] = ""
    verify_hostname: Annotated[
        bool,
        Meta(
            description="the certificates of others must be valid for the host of the URL, "
            "and signed by ca_file or else the system's authorities",
        ),
    ] = False
    proxy: Annotated[
        str,
        Meta(
            description='HTTP proxy to dial through (CONNECT), as "http://proxy.example:3128" '
            'or "${HTTPS_PROXY:-}"',
            pattern=r"^(http://\S+)?$",
            extra={"secret": True},
        ),
    ] = ""

    def __post_init__(self) -> None:
        check_listen(self.listen)
