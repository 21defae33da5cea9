"""The hooks and the options of the plugin ``lease``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tunmesh.errors import ConfigError
from tunmesh.plugin import (
    AddressContext,
    AddressProvider,
    AddressRegistration,
    Duration,
    hookimpl,
)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.lease]``."""

    url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$",
            description="the lease server; this node's lease is at URL/leases/ID",
        ),
    ] = "http://127.0.0.1:8067"
    token_file: Annotated[
        str,
        msgspec.Meta(
            description="file with the token that the server asks for, if it does",
            extra={"path": True},  # relative to the configuration
        ),
    ] = ""
    timeout: Annotated[
        Duration, msgspec.Meta(description="how long an answer of the server may take")
    ] = Duration("5s")

    def __post_init__(self) -> None:
        """Check what the types cannot say.

        Raises:
            ConfigError: There is no time for an answer.
        """
        if float(self.timeout) <= 0:
            raise ConfigError("must be more than zero", key="timeout")


def _build(context: AddressContext) -> AddressProvider:
    from tunmesh_address_lease.provider import LeasedAddresses  # noqa: PLC0415  # only a node does

    return LeasedAddresses(context)


@hookimpl
def tunmesh_address_providers() -> Iterable[AddressRegistration]:
    """Offer the leased addresses."""
    return [
        AddressRegistration(
            summary="addresses that an HTTP server leases",
            factory=_build,
            options=Options,
        )
    ]
