"""The table ``[plugins.igmp]``."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar

import msgspec

from tunmesh.errors import ConfigError
from tunmesh.interfaces.tun import Network
from tunmesh.plugin import Duration
from tunmesh_multicast_igmp.rules import EVERY_GROUP, Mode, Scope


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.igmp]``. Timers have the names of RFC 3376, section 8."""

    applies: ClassVar[str] = "live"

    query_interval: Annotated[
        Duration, msgspec.Meta(description="between two general queries to this host")
    ] = Duration("125s")
    query_response_interval: Annotated[
        Duration, msgspec.Meta(description="within which this host answers a query")
    ] = Duration("500ms")
    robustness: Annotated[
        int, msgspec.Meta(ge=1, le=7, description="how often what may be lost is repeated")
    ] = 2
    mode: Annotated[
        dict[str, Mode],
        msgspec.Meta(
            description='by prefix: "members" (the default), "flood" to every node, or "off"'
        ),
    ] = {}
    scope: Annotated[
        dict[str, Scope],
        msgspec.Meta(
            description='by prefix: "mesh" (the default), or "local" for the local subnet only'
        ),
    ] = {}
    rate_limit: Annotated[
        int,
        msgspec.Meta(ge=0, description="packets a second that this node sends to a group; 0: any"),
    ] = 2000
    max_groups: Annotated[
        int, msgspec.Meta(ge=1, le=1024, description="groups that this host may join")
    ] = 1024
    router_ports: Annotated[
        bool,
        msgspec.Meta(
            description="a multicast router or a bridge is behind this node: it gets every group"
        ),
    ] = False

    def __post_init__(self) -> None:
        prefixes("mode", self.mode)
        prefixes("scope", self.scope)
        if not 1 <= float(self.query_interval) <= 31_744:
            raise ConfigError("must be from 1 s to 31744 s", key="query_interval")
        if not 0.1 <= float(self.query_response_interval) < float(self.query_interval):
            message = "must be 100 ms or more, and less than query_interval"
            raise ConfigError(message, key="query_response_interval")


def prefixes(option: str, values: Mapping[str, Any]) -> dict[Network, Any]:
    """The rules of an option by their prefixes.

    Raises:
        ConfigError: One of them is no prefix of group addresses.
    """
    found: dict[Network, Any] = {}
    for text, value in values.items():
        try:
            prefix = ip_network(text)
        except ValueError as error:
            raise ConfigError(f"{error}", key=option) from error
        if not prefix.subnet_of(EVERY_GROUP[prefix.version]):  # type: ignore[arg-type]
            raise ConfigError(f'"{text}" is no prefix of group addresses', key=option)
        found[prefix] = value
    return found
