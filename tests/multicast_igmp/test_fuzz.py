"""Mutated packets: nothing but `BadPacket` is ever raised, and memory stays flat."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.multicast_igmp.packets import (
    HOST4,
    igmp,
    igmp2,
    igmp3,
    mld,
    mld1,
    mld2,
    record,
    resummed,
)
from tunmesh.errors import BadPacket
from tunmesh.plugin import Duration
from tunmesh.testing import FakePolicyContext
from tunmesh_multicast_igmp.messages import RecordType
from tunmesh_multicast_igmp.options import Options
from tunmesh_multicast_igmp.policy import IgmpPolicy

SEEDS = (
    *(igmp3(record(kind, "239.1.2.3", "10.0.0.1", "10.0.0.2")) for kind in RecordType),
    *(mld2(record(kind, "ff15::1", "fd00::1", "fd00::2")) for kind in RecordType),
    igmp3(*(record(RecordType.IS_EX, f"239.0.0.{n}") for n in range(20)), auxiliary=bytes(8)),
    mld2(*(record(RecordType.IS_EX, f"ff15::{n:x}") for n in range(1, 9)), auxiliary=bytes(8)),
    igmp2("239.1.2.3"),
    igmp2("239.1.2.3", leave=True),
    igmp(0x11, 10, to="224.0.0.1"),
    igmp(0x11, 10, bytes(4) + b"\2\x7d\0\1\x0a\0\0\1", to="224.0.0.1"),
    mld1("ff15::1"),
    mld1("ff15::1", done=True),
    mld(130, bytes(20), to="ff02::1"),
    mld(130, bytes(20) + b"\2\x7d\0\0", to="ff02::1"),
)


def mutated(seed: int, count: int) -> Iterator[bytes]:
    """Packets with some bytes changed, cut off or added; the checksums of most of them right."""
    rng = random.Random(seed)
    for _ in range(count):
        packet = bytearray(rng.choice(SEEDS))
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            packet[rng.randrange(len(packet))] = rng.choice((0, 1, 2, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            del packet[rng.randrange(1, len(packet)) :]
        elif rng.random() < 0.1:
            packet += rng.randbytes(rng.randrange(32))
        if rng.random() < 0.8 and len(packet) >= 52:
            yield resummed(bytes(packet))
        else:
            yield bytes(packet)


def feed(count: int) -> dict[str, int]:
    options = Options(max_groups=64, query_interval=Duration("5s"))  # so that much expires
    context = FakePolicyContext(options, addresses=[f"{HOST4}/24"])
    policy = IgmpPolicy(context)
    taken = refused = 0
    blocks = []
    for number, packet in enumerate(mutated(count, count)):
        try:
            policy.claimed(memoryview(packet))
            taken += 1
        except BadPacket:
            refused += 1
        context.written.clear()
        if number % 1000 == 999:
            context.run_policy(policy, context.now() + 1.0)
            blocks.append(sys.getallocatedblocks())
    early, late = max(blocks[: len(blocks) // 2]), max(blocks[len(blocks) // 2 :])
    assert late < early + 2000, f"from {early} to {late} blocks of memory"
    assert taken > count // 20
    assert refused > count // 20
    return policy.statistics()


@pytest.mark.timeout(120)
def test_a_hundred_thousand_mutated_packets() -> None:
    statistics = feed(100_000)
    assert statistics["own_groups"] <= 64


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_mutated_packets() -> None:
    feed(1_000_000)
