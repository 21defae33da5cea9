"""The tests that every transport has to pass."""

from __future__ import annotations

from tunmesh.testing.conformance.transport_contract import TransportContract
from tunmesh.testing.conformance.transport_life import TransportLife
from tunmesh.testing.conformance.transport_traffic import TransportTraffic


class TransportConformance(TransportContract, TransportTraffic, TransportLife):
    """Tests of a transport: give `plugin` and `settings`.

    Attributes:
        over_ip: Whether endpoints hold IP addresses, so that those inside the mesh are refused.
    """
