"""The address provider that is shipped under the kit."""

from __future__ import annotations

from tunmesh.testing.conformance import AddressConformance


class TestIfaddr(AddressConformance):
    plugin = "ifaddr"


class TestIfaddrWithoutDevice(AddressConformance):
    plugin = "ifaddr"
    device = "nonesuch0"
