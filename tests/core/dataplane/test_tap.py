"""What somebody who looks at packets is shown, and that nobody else pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from tests.core.dataplane.control import A4, B4, GROUP4, HERE4, A, B, FakeControl
from tests.core.dataplane.test_inside import Bench as InsideBench
from tests.core.dataplane.test_outside import Bench as OutsideBench
from tests.core.fakes import frame, tcp_superframe, udp_frame, unit_of
from tunmesh.dataplane import Port
from tunmesh.dataplane.tap import Way, frames_of
from tunmesh.interfaces.tun import Buffer


class Recorder:
    """Remembers what it is shown: where, what became of it, the frame."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []

    def inside(self, way: Way, items: Buffer) -> None:
        what = way if isinstance(way, str) else "sent"
        self.seen += [("inside", what, bytes(each)) for each in frames_of(items)]

    def dropped_inside(self, reason: str, items: Buffer) -> None:
        self.seen += [("dropped", reason, bytes(each)) for each in frames_of(items)]

    def outside(self, port: Port, frames: Sequence[Buffer]) -> None:
        self.seen += [("outside", port.node_id, bytes(each)) for each in frames]

    def dropped_outside(self, reason: str, port: Port, frames: Sequence[Buffer]) -> None:
        self.seen += [("dropped", reason, bytes(each)) for each in frames]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def of(destination: str, source: str = HERE4) -> bytes:
    return frame(source, destination, bytes(30))


def test_inside_shows_every_frame_with_its_way(recorder: Recorder) -> None:
    bench = InsideBench()
    bench.inside.set_tap(recorder)
    large = tcp_superframe(HERE4, A4, bytes(5000), 1400)
    bench.send(of(A4), of("10.42.9.9"), of(B4), large)
    assert sorted(recorder.seen) == sorted(
        [
            ("inside", "sent", of(A4)),
            ("inside", "no_route", of("10.42.9.9")),
            ("dropped", "no_route", of("10.42.9.9")),
            ("inside", "sent", of(B4)),
            ("inside", "sent", large),
        ]
    )
    assert bench.drops.seen() == {"no_route": 1}
    assert sorted(bench.frames(A)) == sorted([of(A4), large])
    assert bench.frames(B) == [of(B4)]


def test_drops_behind_the_decision_are_shown_too(recorder: Recorder) -> None:
    bench = InsideBench()
    bench.inside.set_tap(recorder)
    bench.transport.full = [True]
    bench.send(of(A4))
    bench.disconnect(B)
    bench.send(of(B4))
    bench.now += 5
    bench.send(of(B4))
    drops = [(reason, each) for where, reason, each in recorder.seen if where == "dropped"]
    assert drops == [("queue_full", of(A4)), ("peer_gone", of(B4))]


def test_a_group_without_members_and_one_with_a_limit(recorder: Recorder) -> None:
    bench = InsideBench()
    bench.inside.set_tap(recorder)
    bench.send(of("239.9.9.9"), of(GROUP4))
    assert ("dropped", "no_group", of("239.9.9.9")) in recorder.seen
    assert ("inside", "sent", of(GROUP4)) in recorder.seen


def test_what_a_policy_decides_is_shown_once_it_has(recorder: Recorder) -> None:
    bench = InsideBench()
    bench.inside.verdicts.add(
        lambda flow, _: ("denied" if flow.destination == ip_address(A4) else None, 1.0)
    )
    bench.inside.set_tap(recorder)
    to_a, to_b = udp_frame(HERE4, A4, bytes(20)), udp_frame(HERE4, B4, bytes(20))
    bench.send(to_a, to_b)
    assert sorted(recorder.seen) == sorted(
        [("inside", "denied", to_a), ("dropped", "denied", to_a), ("inside", "sent", to_b)]
    )


def test_outside_shows_what_is_delivered_and_what_is_not(recorder: Recorder) -> None:
    bench = OutsideBench()
    bench.outside.set_tap(recorder)
    good, spoofed, lost = of(HERE4, A4), of(HERE4, B4), of(B4, A4)
    bench.deliver(unit_of(good, spoofed, lost))
    bad = bytes(10) + bytes(30)
    bench.deliver(unit_of(bad))
    assert sorted(recorder.seen) == sorted(
        [
            ("outside", A, good),
            ("dropped", "spoofed_source", spoofed),
            ("dropped", "misrouted", lost),
            ("dropped", "bad_packet", bad),
        ]
    )
    assert bench.drops.seen() == {"spoofed_source": 1, "misrouted": 1, "bad_packet": 1}


@pytest.mark.parametrize("source", [A4, B4])
def test_outside_shows_coalesced_packets(recorder: Recorder, source: str) -> None:
    bench = OutsideBench()
    bench.outside.set_tap(recorder)
    each = udp_frame(source, HERE4, bytes(200))
    bench.deliver(unit_of(*[each] * 5))
    ((where, what, shown),) = recorder.seen
    expected = ("outside", A) if source == A4 else ("dropped", "spoofed_source")
    assert (where, what) == expected
    assert len(shown) > 5 * 200


def test_nothing_is_left_when_nobody_looks_any_longer(recorder: Recorder) -> None:
    inside, outside = InsideBench(), OutsideBench()
    for part in (inside.inside, outside.outside):
        before = dict(vars(part))
        part.set_tap(recorder)
        part.set_tap(None)
        assert vars(part) == before
    inside.send(of(A4), of("10.42.9.9"))
    outside.deliver(unit_of(of(HERE4, A4)))
    assert recorder.seen == []
    assert isinstance(inside.control, FakeControl)
