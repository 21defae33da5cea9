"""THE import of plugin authors: ``from tunmesh.plugin import hookimpl, Transport, …``."""

from tunmesh.errors import AddressError, BadPacket, EndpointError, TransportError, TunError
from tunmesh.hookspecs import hookimpl, hookspec
from tunmesh.interfaces import (
    AddressContext,
    AddressProvider,
    AddressRegistration,
    Context,
    DeviceConfig,
    Inbound,
    PathHandle,
    PolicyContext,
    PolicyRegistration,
    Reactor,
    Route,
    RoutingPolicy,
    Transport,
    TransportContext,
    TransportRegistration,
    Tun,
    TunContext,
    TunRegistration,
    Watch,
)

#: Entry-point group; the number is the API's version.
GROUP = "tunmesh.plugins.v1"

__all__ = [
    "GROUP",
    "AddressContext",
    "AddressError",
    "AddressProvider",
    "AddressRegistration",
    "BadPacket",
    "Context",
    "DeviceConfig",
    "EndpointError",
    "Inbound",
    "PathHandle",
    "PolicyContext",
    "PolicyRegistration",
    "Reactor",
    "Route",
    "RoutingPolicy",
    "Transport",
    "TransportContext",
    "TransportError",
    "TransportRegistration",
    "Tun",
    "TunContext",
    "TunError",
    "TunRegistration",
    "Watch",
    "hookimpl",
    "hookspec",
]
