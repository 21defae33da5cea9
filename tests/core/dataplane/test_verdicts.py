"""Policies that decide about flows: who is asked when, what is dropped, how it is counted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.dataplane.control import (
    A4,
    A6,
    B4,
    GROUP4,
    HERE4,
    HERE6,
    OWN_GROUP4,
    A,
    B,
    FakeControl,
)
from tests.core.fakes import (
    ALL_OFFLOADS,
    RecordingTransport,
    frame,
    items,
    keypairs,
    packet,
    tcp_superframe,
    udp_frame,
    unit_of,
    units,
)
from tunmesh.counters import Drops
from tunmesh.dataplane import Inside, Outside, Port
from tunmesh.dataplane.verdicts import Refusal, flow_number
from tunmesh.errors import BadPacket
from tunmesh.interfaces.policy import Direction, Flow
from tunmesh.session.units import Sealer
from tunmesh.testing import MemoryTun

SLICE = 1456
TCP, UDP = 6, 17


class Bench:
    """Both sides of a node with the peers A and B, and a policy that refuses what it is told to.

    Attributes:
        asked: What the policy was asked.
        refused: Destination ports that it refuses.
        seconds: For how long that holds.
    """

    def __init__(self, *, judged: bool = True) -> None:
        self.now = 100.0
        self.tun = MemoryTun(offloads=ALL_OFFLOADS)
        self.transport = RecordingTransport()
        self.ports = {A: Port(A), B: Port(B)}
        self.control = FakeControl(*self.ports.values())
        self.drops = Drops()
        self.inside = Inside(self.tun, self.control, self.drops, lambda: self.now)
        self.outside = Outside(
            self.tun,
            self.control,
            self.drops,
            lambda: self.now,
            self.inside.claims,
            self.inside.verdicts,
        )
        self.theirs = {}
        for node_id, port in self.ports.items():
            number = 10 if node_id == A else 11
            ours, self.theirs[node_id] = keypairs(first=number, second=number, seed=b"s")
            ours.peer = port
            port.tx_keypair = port.rx_keypair = ours
            self.outside.keypairs[number] = ours
            port.handle = port.rx_handle = self.transport.connect(f"test://{node_id}")
            port.slice_size = SLICE
        self.asked: list[tuple[Flow, Direction]] = []
        self.refused: dict[int, Refusal] = {}
        self.seconds = 10.0
        if judged:
            self.inside.verdicts.add(self._judge)

    def _judge(self, flow: Flow, direction: Direction) -> tuple[Refusal | None, float]:
        self.asked.append((flow, direction))
        return self.refused.get(flow.destination_port), self.seconds

    def send(self, *frames: bytes) -> dict[str, list[bytes]]:
        """Let this host send frames; those that each peer got."""
        for each in frames:
            self.tun.inject(each)
        self.inside.read()
        sends, self.transport.sends = self.transport.sends, []
        got: dict[str, list[bytes]] = {}
        for node_id in self.ports:
            datagrams = [
                datagram
                for sent in sends
                if sent.handle.endpoint == f"test://{node_id}"
                for datagram in sent.datagrams
            ]
            for plain in units(datagrams, self.theirs[node_id]):
                got.setdefault(node_id, []).extend(body for _, body in items(plain))
        return got

    def deliver(self, node_id: str, *frames: bytes) -> list[bytes]:
        """Let a peer send a unit of frames; those that this host got."""
        wire = RecordingTransport()
        to_here = wire.connect("test://here:1")
        Sealer().send(self.theirs[node_id], unit_of(*frames), to_here, SLICE)
        handle = self.ports[node_id].handle
        assert handle is not None
        before = len(self.tun.written)
        for datagram in wire.datagrams:
            self.outside.receive(handle, memoryview(datagram), len(datagram))
        return self.tun.written[before:]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tcp(source: str, destination: str, port: int, *, sender_port: int = 999) -> bytes:
    ports = sender_port.to_bytes(2, "big") + port.to_bytes(2, "big")
    return frame(source, destination, ports + bytes(16), protocol=TCP)


@pytest.mark.parametrize(("here", "there"), [(HERE4, A4), (HERE6, A6)])
def test_a_new_flow_is_asked_about_once_until_its_time_is_over(
    bench: Bench, here: str, there: str
) -> None:
    each = tcp(here, there, 80)
    assert bench.send(each, each) == {A: [each, each]}
    assert bench.send(each) == {A: [each]}
    flow = Flow(ip_address(here), ip_address(there), TCP, 999, 80, peer=A)
    assert bench.asked == [(flow, "inside")]
    bench.now += 9.9
    bench.send(each)
    assert len(bench.asked) == 1
    bench.now += 0.2
    bench.send(each)
    assert bench.asked == [(flow, "inside")] * 2

    back = tcp(there, here, 999, sender_port=80)
    assert bench.deliver(A, back, back) == [back, back]
    assert bench.deliver(A, back) == [back]
    assert bench.asked[2:] == [(flow.reversed(), "outside")]
    assert bench.drops.seen() == {}


def test_what_is_denied_from_inside_is_counted_and_its_sender_told(bench: Bench) -> None:
    bench.refused[22] = "denied"
    good, bad = tcp(HERE4, A4, 80), tcp(HERE4, A4, 22)
    assert bench.send(good, bad, good, bad) == {A: [good, good]}
    assert bench.drops.seen() == {"denied": 2}
    assert len(bench.asked) == 2
    assert (bench.inside.packets, bench.ports[A].tx_packets) == (4, 2)
    assert [bytes(error[30:32]) for error in bench.tun.written] == [b"\x03\x0d"] * 2


def test_what_is_denied_from_outside_is_counted_in_silence(bench: Bench) -> None:
    bench.refused[22] = "denied"
    good, bad = tcp(A4, HERE4, 80), tcp(A4, HERE4, 22)
    assert bench.deliver(A, bad, good, bad) == [good]
    assert bench.drops.seen() == {"denied": 2}
    assert bench.send() == {}
    assert bench.ports[A].rx_packets == 1


def test_a_failure_is_counted_apart(bench: Bench) -> None:
    bench.refused[22] = "error"
    bench.send(tcp(HERE4, A4, 22))
    bench.deliver(A, tcp(A4, HERE4, 22))
    assert bench.drops.seen() == {"error": 2}


def test_what_goes_nowhere_or_is_spoofed_is_not_asked_about(bench: Bench) -> None:
    bench.send(tcp(HERE4, "10.42.0.99", 80), tcp(HERE4, "239.9.9.9", 80))
    assert bench.deliver(B, tcp(A4, HERE4, 80)) == []
    assert bench.asked == []
    assert bench.drops.seen() == {"no_route": 1, "no_group": 1, "spoofed_source": 1}


def test_the_flows_of_one_peer_are_asked_about_though_another_may_send_the_same(
    bench: Bench,
) -> None:
    bench.deliver(A, tcp(A4, HERE4, 80))
    bench.deliver(B, tcp(A4, HERE4, 80))
    assert [flow.peer for flow, _ in bench.asked] == [A]
    assert bench.drops.seen() == {"spoofed_source": 1}


def test_all_policies_must_agree_and_the_shortest_time_counts(bench: Bench) -> None:
    more: list[Flow] = []

    def judge(flow: Flow, direction: Direction) -> tuple[Refusal | None, float]:
        more.append(flow)
        return ("denied" if flow.protocol == UDP else None), 1.0

    bench.inside.verdicts.add(judge)
    bench.refused[22] = "denied"
    bench.send(tcp(HERE4, A4, 22), tcp(HERE4, A4, 80), frame(HERE4, A4, bytes(8), protocol=UDP))
    assert bench.drops.seen() == {"denied": 2}
    assert len(more) == 2  # the first one had denied the third
    bench.now += 1.1
    bench.send(tcp(HERE4, A4, 80))
    assert len(more) == 3


def test_groups_are_judged_but_not_what_is_claimed(bench: Bench) -> None:
    taken: list[bytes] = []
    bench.inside.claims.add([2], [], lambda each: taken.append(bytes(each)))
    igmp = frame(HERE4, GROUP4, bytes(8), protocol=2)
    good, bad = (
        frame(HERE4, GROUP4, bytes((0, 1, 0, port)) + bytes(4), protocol=UDP) for port in (80, 22)
    )
    bench.refused[22] = "denied"
    assert bench.send(good, igmp, bad, igmp) == {A: [good], B: [good]}
    assert taken == [igmp[10:]] * 2
    assert bench.drops.seen() == {"denied": 1}
    assert {flow.peer for flow, _ in bench.asked} == {""}
    assert all(flow.protocol == UDP for flow, _ in bench.asked)
    heard = frame(A4, OWN_GROUP4, b"\0\1\0\x50" + bytes(4), protocol=UDP)
    assert bench.deliver(A, heard) == [heard]
    assert bench.asked[-1][1] == "outside"


def test_a_superpacket_is_one_flow_of_many_packets(bench: Bench) -> None:
    big = tcp_superframe(HERE4, A4, bytes(20_000), 1_400)
    assert bench.send(big) == {A: [big]}
    assert len(bench.asked) == 1
    segments = bench.ports[A].tx_packets
    assert segments > 10
    bench.refused[bench.asked[0][0].destination_port] = "denied"
    bench.inside.forget_flows()
    assert bench.send(big, big) == {}
    assert bench.drops.seen() == {"denied": 2 * segments}


def test_equal_datagrams_from_outside_are_judged_together() -> None:
    bench = Bench()
    same = [udp_frame(A4, HERE4, bytes(100)) for _ in range(10)]
    assert len(bench.deliver(A, *same)) == 1
    assert len(bench.asked) == 1
    bench.refused[bench.asked[0][0].destination_port] = "denied"
    bench.ports[A].forget_flows()
    assert bench.deliver(A, *same) == []
    assert bench.drops.seen() == {"denied": 10}


def test_flows_to_one_peer_still_travel_together(bench: Bench) -> None:
    frames = [tcp(HERE4, A4, 80), tcp(HERE6, A6, 80), tcp(HERE4, A4, 81)]
    for each in frames:
        bench.tun.inject(each)
    bench.inside.read()
    assert len(bench.transport.sends) == 1


def test_without_policies_nothing_is_looked_at() -> None:
    bench = Bench(judged=False)
    short = frame(HERE4, A4, b"\0", protocol=TCP)  # without its ports
    assert bench.send(short) == {A: [short]}
    assert bench.deliver(A, tcp(A4, HERE4, 1))
    assert bench.ports[A].verified
    assert not bench.ports[A].judged
    judged = Bench()
    assert judged.send(short) == {}
    assert judged.deliver(A, frame(A4, HERE4, b"\0", protocol=TCP)) == []
    assert judged.drops.seen() == {"bad_packet": 2}


def test_the_memory_of_flows_is_bounded(bench: Bench) -> None:
    for port in range(5000):
        bench.deliver(A, tcp(A4, HERE4, port))
    assert len(bench.asked) == 5000
    assert len(bench.ports[A].judged) <= 4096


# The number of a flow


@pytest.mark.parametrize(
    ("payload", "protocol", "number"),
    [
        (b"\x12\x34\x56\x78" + bytes(4), UDP, UDP << 32 | 0x12345678),
        (b"\x12\x34\x56\x78" + bytes(4), 132, 132 << 32 | 0x12345678),
        (b"\x12\x34\x56\x78" + bytes(4), 1, 1 << 32),
        (b"", 99, 99 << 32),
    ],
)
def test_a_number_is_made_of_protocol_and_ports(payload: bytes, protocol: int, number: int) -> None:
    assert flow_number(packet("10.0.0.1", "10.0.0.2", payload, protocol=protocol)) == number
    assert flow_number(packet("fd00::1", "fd00::2", payload, protocol=protocol)) == number


@pytest.mark.parametrize("flags", [0x2000, 0x2001, 0x0001])
def test_all_fragments_of_a_packet_have_one_number(flags: int) -> None:
    whole = bytearray(packet("10.0.0.1", "10.0.0.2", b"\1\2\3\4" + bytes(9), protocol=UDP))
    whole[6:8] = flags.to_bytes(2, "big")
    assert flow_number(whole) == 1 << 40 | UDP << 32
    header = bytes((UDP, 0)) + ((flags & 0x1FFF) << 3 | flags >> 13).to_bytes(2, "big") + bytes(4)
    six = packet("fd00::1", "fd00::2", header + b"\1\2\3\4" + bytes(4), protocol=44)
    assert flow_number(six) == 1 << 40 | UDP << 32


def test_ports_behind_options_are_found() -> None:
    plain = packet("10.0.0.1", "10.0.0.2", bytes(4) + b"\1\2\3\4" + bytes(4), protocol=UDP)
    assert flow_number(b"\x46" + plain[1:]) == UDP << 32 | 0x01020304


@given(st.binary(max_size=80))
def test_any_bytes_have_a_number_or_are_a_bad_packet(data: bytes) -> None:
    try:
        number = flow_number(data)
    except BadPacket:
        return
    assert 0 <= number < 1 << 41


# Against a model that remembers nothing

_FLOWS = st.tuples(
    st.sampled_from(["inside", "outside"]),
    st.sampled_from([(A, A4), (B, B4)]),
    st.sampled_from([TCP, UDP, 1]),
    st.integers(1, 4),
)
_STEPS = st.lists(
    st.one_of(
        st.lists(_FLOWS, min_size=1, max_size=6),
        st.floats(0, 3),
        st.sets(st.integers(1, 4)),
    ),
    max_size=25,
)


@given(_STEPS)
def test_flows_pass_as_if_each_packet_were_asked_about(steps: list[object]) -> None:
    """The policy's mind changes only when it says so; its answers hold for 2 seconds."""
    bench = Bench()
    bench.seconds = 2.0
    until: dict[object, float] = {}
    for step in steps:
        if isinstance(step, float):
            bench.now += step
        elif isinstance(step, set):
            bench.refused = dict.fromkeys(step, "denied")
            until.clear()
            bench.inside.forget_flows()
            for port in bench.ports.values():
                port.forget_flows()
        elif isinstance(step, list):
            asked = len(bench.asked)
            _compare(bench, step)
            new = {flow for flow in map(_known_as, step) if until.get(flow, 0) <= bench.now}
            until.update(dict.fromkeys(new, bench.now + bench.seconds))
            assert len(bench.asked) - asked == len(new)


def _known_as(step: tuple[Direction, tuple[str, str], int, int]) -> object:
    direction, peer, protocol, port = step
    return direction, peer, protocol, 0 if protocol == 1 else port


def _compare(bench: Bench, flows: list[tuple[Direction, tuple[str, str], int, int]]) -> None:
    denied = bench.drops["denied"]
    expected: dict[str, list[bytes]] = {}
    frames: list[bytes] = []
    refusals = 0
    for direction, (node_id, address), protocol, port in flows:
        ports = b"\0\7" + port.to_bytes(2, "big") + bytes(4)
        passes = protocol == 1 or port not in bench.refused
        refusals += not passes
        if direction == "inside":
            frames.append(frame(HERE4, address, ports, protocol=protocol))
            if passes:
                expected.setdefault(node_id, []).append(frames[-1])
        else:
            each = frame(address, HERE4, ports, protocol=protocol)
            assert bench.deliver(node_id, each) == ([each] if passes else [])
    assert bench.send(*frames) == expected
    assert bench.drops["denied"] - denied == refusals
