"""The hooks and the options of the plugin ``access``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

import msgspec

from tunmesh.errors import ConfigError
from tunmesh.plugin import (
    Duration,
    PolicyContext,
    PolicyRegistration,
    RoutingPolicy,
    hookimpl,
)
from tunmesh_policy_access.rules import compile_rules

Action: TypeAlias = Literal["allow", "deny"]
#: A node's name or id, a prefix, or ``@`` and the name of a group.
Party: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class RuleOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[plugins.access.rules]]``; what it does not name may be anything."""

    action: Annotated[Action, msgspec.Meta(description="what happens to a flow that fits")]
    source: Annotated[
        tuple[Party, ...],
        msgspec.Meta(description="who sends: names or ids of nodes, prefixes, or @group"),
    ] = ()
    destination: Annotated[
        tuple[Party, ...], msgspec.Meta(description="who receives, in the same form")
    ] = ()
    protocol: Annotated[
        str, msgspec.Meta(description="tcp, udp, icmp (of both versions of IP), or a number")
    ] = ""
    ports: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="destination ports, as 22 or 8000-8099; needs a protocol"),
    ] = ()


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[plugins.access]``."""

    default: Annotated[
        Action, msgspec.Meta(description="what happens to a flow that no rule fits")
    ] = "deny"
    established: Annotated[
        Duration,
        msgspec.Meta(
            description="how long after the last packet of an allowed flow its answers may come"
        ),
    ] = Duration("60s")
    groups: Annotated[
        dict[str, tuple[Party, ...]],
        msgspec.Meta(description="names for several nodes and prefixes, used as @name"),
    ] = {}
    rules: Annotated[
        tuple[RuleOptions, ...],
        msgspec.Meta(description="from the first to the last; the first that fits decides"),
    ] = ()

    def __post_init__(self) -> None:
        """Check what the types cannot say.

        Raises:
            ConfigError: A rule or a group makes no sense.
        """
        if float(self.established) <= 0:
            raise ConfigError("must be more than zero", key="established")
        compile_rules(self)


def _build(context: PolicyContext) -> RoutingPolicy:
    from tunmesh_policy_access.policy import AccessPolicy  # noqa: PLC0415  # only a node does

    return AccessPolicy(context)


@hookimpl
def tunmesh_routing_policies() -> Iterable[PolicyRegistration]:
    """Offer the access rules."""
    return [
        PolicyRegistration(
            summary="access rules by node, prefix, protocol and port",
            factory=_build,
            options=Options,
        )
    ]
