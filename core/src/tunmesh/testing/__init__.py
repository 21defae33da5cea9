"""For tests of tunmesh and its plugins: virtual time, memory network and device, contexts.

Nothing here needs an event loop, sleeps, or draws unseeded random numbers.
"""

from tunmesh.testing.clock import Timer, VirtualClock
from tunmesh.testing.context import (
    FakeContext,
    FakePolicyContext,
    FakeReactor,
    FakeTransportContext,
    FakeTunContext,
    FakeWatch,
    Received,
    RecordingInbound,
)
from tunmesh.testing.faults import Faults, Nat, NatKind
from tunmesh.testing.memory import MemoryTransport, MemoryTun
from tunmesh.testing.network import MemoryNetwork

__all__ = [
    "FakeContext",
    "FakePolicyContext",
    "FakeReactor",
    "FakeTransportContext",
    "FakeTunContext",
    "FakeWatch",
    "Faults",
    "MemoryNetwork",
    "MemoryTransport",
    "MemoryTun",
    "Nat",
    "NatKind",
    "Received",
    "RecordingInbound",
    "Timer",
    "VirtualClock",
]
