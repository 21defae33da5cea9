"""The table ``[plugins.udp]``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tunmesh.underlay import check_listen

DEFAULT_LISTEN = ("0.0.0.0:4567", "[::]:4567")
_LITERAL = r"^(\d+\.\d+\.\d+\.\d+|\[[0-9A-Fa-f:.]+(%[^\[\]]+)?\]):\d{1,5}$"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.udp]``."""

    listen: Annotated[
        tuple[
            Annotated[str, msgspec.Meta(pattern=r"^(\d+\.\d+\.\d+\.\d+|\[[^\[\]]+\]):\d{1,5}$")],
            ...,
        ],
        msgspec.Meta(
            min_length=1,
            description="addresses and ports to listen on, as 0.0.0.0:4567 or [::]:4567; "
            "datagrams to a peer leave from the first one of the peer's IP version",
        ),
    ] = DEFAULT_LISTEN

    def __post_init__(self) -> None:
        check_listen(self.listen)
