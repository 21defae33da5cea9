"""The frozen records that registration hooks return: what a plugin offers, and how to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from tunmesh.interfaces.address import AddressContext, AddressProvider
from tunmesh.interfaces.policy import PolicyContext, RoutingPolicy
from tunmesh.interfaces.transport import Transport, TransportContext
from tunmesh.interfaces.tun import Tun, TunContext

C = TypeVar("C")
T = TypeVar("T")


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a plugin that has none."""


@dataclass(frozen=True)
class Registration(Generic[C, T]):
    """What a plugin offers for one role.

    Attributes:
        summary: One line for ``tunmesh plugins`` and the configuration example.
        factory: Builds the object from its context; must not open anything yet.
        options: Type of the plugin's table in the configuration: a frozen msgspec Struct whose
            fields all have defaults. A field's description, printed by ``tunmesh config
            example``, is the ``description`` of a `msgspec.Meta` in its annotation.
    """

    summary: str
    factory: Callable[[C], T]
    options: type[Any] = NoOptions


@dataclass(frozen=True)
class TunRegistration(Registration[TunContext, Tun]):
    """Offers the role ``tun``."""


@dataclass(frozen=True)
class TransportRegistration(Registration[TransportContext, Transport]):
    """Offers the role ``transport``."""


@dataclass(frozen=True)
class PolicyRegistration(Registration[PolicyContext, RoutingPolicy]):
    """Offers the role ``policy``."""


@dataclass(frozen=True)
class AddressRegistration(Registration[AddressContext, AddressProvider]):
    """Offers the role ``address``."""
