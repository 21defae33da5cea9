"""What plugins implement, and what the core hands to them.

Plugins implement the abstract base classes; methods that are added later have defaults. What
the core hands to a plugin is a small Protocol, so that a test can fake it.
"""

from tunmesh.interfaces.address import AddressContext, AddressProvider
from tunmesh.interfaces.checks import Finding, HostView
from tunmesh.interfaces.common import Context, Reactor, Watch
from tunmesh.interfaces.policy import (
    Direction,
    Flow,
    GroupMember,
    PolicyContext,
    Route,
    RoutingPolicy,
    SupportsVerdict,
)
from tunmesh.interfaces.registration import (
    AddressRegistration,
    PolicyRegistration,
    TransportRegistration,
    TunRegistration,
)
from tunmesh.interfaces.reload import SupportsReload
from tunmesh.interfaces.transport import (
    Inbound,
    IssuedToken,
    PathHandle,
    TokenKind,
    Transport,
    TransportContext,
)
from tunmesh.interfaces.tun import DeviceConfig, Tun, TunContext

__all__ = [
    "AddressContext",
    "AddressProvider",
    "AddressRegistration",
    "Context",
    "DeviceConfig",
    "Direction",
    "Finding",
    "Flow",
    "GroupMember",
    "HostView",
    "Inbound",
    "IssuedToken",
    "PathHandle",
    "PolicyContext",
    "PolicyRegistration",
    "Reactor",
    "Route",
    "RoutingPolicy",
    "SupportsReload",
    "SupportsVerdict",
    "TokenKind",
    "Transport",
    "TransportContext",
    "TransportRegistration",
    "Tun",
    "TunContext",
    "TunRegistration",
    "Watch",
]
