"""The routing policy that is shipped under the kit."""

from __future__ import annotations

from tunmesh.testing.conformance import PolicyConformance


class TestIgmp(PolicyConformance):
    plugin = "igmp"
