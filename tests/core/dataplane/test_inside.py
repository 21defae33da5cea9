"""From the device to the peers: what is sent to whom, in which units, and what is counted."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.dataplane.control import (
    A4,
    A6,
    B4,
    GROUP4,
    GROUP6,
    HERE4,
    HERE6,
    A,
    B,
    FakeControl,
    route,
)
from tests.core.fakes import (
    ALL_OFFLOADS,
    RecordingTransport,
    as_item,
    frame,
    items,
    keypairs,
    tcp_superframe,
    udp_frame,
    unit_of,
    units,
)
from tunmesh.counters import Drops
from tunmesh.dataplane import Inside, Port
from tunmesh.errors import BadPacket
from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Buffer
from tunmesh.offload import check_frame_untrusted, split
from tunmesh.session.units import LARGEST_FRAME
from tunmesh.testing import MemoryTun

SLICE = 1456
IGMP = 2


class CountingTun(MemoryTun):
    """Counts how often it is read."""

    reads = 0

    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        self.reads += 1
        return super().read_batch(buffer, headroom, fill)


class Bench:
    """The inside of a node with two peers, of which both can be reached."""

    def __init__(self) -> None:
        self.now = 100.0
        self.tun = CountingTun(offloads=ALL_OFFLOADS)
        self.transport = RecordingTransport()
        self.ports = {A: Port(A), B: Port(B)}
        self.control = FakeControl(*self.ports.values())
        self.drops = Drops()
        self.inside = Inside(self.tun, self.control, self.drops, lambda: self.now)
        self.keys = {
            A: keypairs(second=10, seed=b"a"),
            B: keypairs(second=11, seed=b"b"),
        }
        for node_id in (A, B):
            self.connect(node_id)

    def connect(self, node_id: str) -> None:
        port = self.ports[node_id]
        port.tx_keypair = self.keys[node_id][0]
        port.handle = self.transport.connect(f"test://{node_id}")
        port.slice_size = SLICE

    def disconnect(self, node_id: str) -> None:
        self.ports[node_id].tx_keypair = self.ports[node_id].handle = None

    def send(self, *frames: Buffer) -> None:
        """Let the host send frames, and read the device once."""
        for each in frames:
            self.tun.inject(each)
        self.inside.read()

    def units(self, node_id: str) -> list[list[bytes]]:
        """The frames of every unit that was sent to a node."""
        endpoint = f"test://{node_id}"
        datagrams = [
            datagram
            for sent in self.transport.sends
            if sent.handle.endpoint == endpoint
            for datagram in sent.datagrams
        ]
        found = [items(plain) for plain in units(datagrams, self.keys[node_id][1])]
        assert all(kind == 1 for unit in found for kind, _ in unit)
        return [[body for _, body in unit] for unit in found]

    def frames(self, node_id: str) -> list[bytes]:
        return [each for unit in self.units(node_id) for each in unit]

    def counters(self, node_id: str) -> tuple[int, int]:
        port = self.ports[node_id]
        return port.tx_packets, port.tx_bytes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def to(destination: str, size: int = 50) -> bytes:
    """A frame of `size` bytes of IP from this host."""
    six = ":" in destination
    return frame(HERE6 if six else HERE4, destination, bytes(size - (40 if six else 20)))


# Units


@pytest.mark.parametrize(("destination", "node_id"), [(A4, A), (A6, A), (B4, B)])
def test_a_packet_travels_as_it_is(bench: Bench, destination: str, node_id: str) -> None:
    bench.send(to(destination))
    assert bench.units(node_id) == [[to(destination)]]
    assert len(bench.transport.sends) == 1
    assert bench.counters(node_id) == (1, 50)
    assert (bench.inside.packets, bench.inside.bytes) == (1, 50)
    assert bench.ports[node_id].used
    assert bench.drops.seen() == {}


def test_only_the_first_packets_after_a_while_wake_the_peer(bench: Bench) -> None:
    bench.send(to(A4))
    bench.send(to(A4))
    assert bench.control.woke == [bench.ports[A]]
    bench.ports[A].used = False
    bench.send(to(A4))
    assert bench.control.woke == [bench.ports[A]] * 2


def test_many_small_packets_share_a_unit_and_a_send(bench: Bench) -> None:
    frames = [to(A4, 50 + number) for number in range(100)]
    bench.send(*frames)
    assert bench.units(A) == [frames]
    assert len(bench.transport.sends) == 1
    assert bench.counters(A) == (100, sum(range(50, 150)))


@pytest.mark.parametrize(("payload", "packets"), [(1, 1), (1000, 1), (1001, 2), (60_000, 60)])
def test_a_superpacket_counts_as_the_packets_it_stands_for(
    bench: Bench, payload: int, packets: int
) -> None:
    superframe = tcp_superframe(HERE4, A4, bytes(payload), 1000)
    bench.send(superframe)
    assert bench.units(A) == [[superframe]]
    # hdr_len tells the headers: 40 bytes each.
    assert bench.counters(A) == (packets, payload + 40 * packets)
    assert (bench.inside.packets, bench.inside.bytes) == bench.counters(A)


def test_a_superpacket_without_segment_size_does_not_divide_by_zero(bench: Bench) -> None:
    superframe = bytearray(tcp_superframe(HERE4, A4, bytes(100), 1000))
    superframe[4:6] = bytes(2)
    bench.send(superframe)
    assert bench.frames(A) == [superframe]


def test_frames_of_several_hops_are_sent_together_for_each(bench: Bench) -> None:
    frames = [to((A4, B4, A6)[number % 3], 60 + number) for number in range(30)]
    bench.send(*frames)
    ours = [each for number, each in enumerate(frames) if number % 3 != 1]
    theirs = [each for number, each in enumerate(frames) if number % 3 == 1]
    assert bench.units(A) == [ours]
    assert bench.units(B) == [theirs]
    assert bench.counters(A) == (20, sum(len(each) - 10 for each in ours))
    assert bench.counters(B) == (10, sum(len(each) - 10 for each in theirs))
    assert bench.inside.packets == 30


def test_runs_of_one_hop_that_need_no_second_send_are_joined(bench: Bench) -> None:
    large = to(A4, 40_000)
    bench.send(to(A4), to(B4), large)
    assert bench.units(A) == [[to(A4), large]]


def test_runs_of_one_hop_that_would_need_a_second_send_are_not_joined(bench: Bench) -> None:
    large = to(A4, 62_960)
    bench.send(to(A4), to(B4), large)
    assert bench.units(A) == [[to(A4)], [large]]
    assert bench.units(B) == [[to(B4)]]
    assert bench.counters(A) == (2, 63_010)


def test_a_last_frame_that_is_too_much_has_a_unit_of_its_own(bench: Bench) -> None:
    large = to(A4, 60_000)
    bench.send(to(A4, 5000), to(A4), large)
    assert bench.units(A) == [[to(A4, 5000), to(A4)], [large]]
    assert bench.counters(A) == (3, 65_050)
    assert bench.inside.packets == 3


def test_the_largest_frame_alone(bench: Bench) -> None:
    largest = to(A4, 65_535)
    assert len(largest) == LARGEST_FRAME
    bench.send(largest)
    assert bench.units(A) == [[largest]]
    assert len(bench.transport.sends) == 2


def test_reading_is_bounded_and_goes_on_later(bench: Bench) -> None:
    frames = [to(A4, 20_000 + number) for number in range(10)]
    bench.send(*frames)
    assert bench.units(A) == [[each] for each in frames[:8]]
    bench.inside.read()
    assert bench.units(A) == [[each] for each in frames]


def test_a_device_that_had_little_is_not_asked_again(bench: Bench) -> None:
    bench.send(to(A4))
    assert bench.tun.reads == 1
    bench.inside.read()
    assert bench.tun.reads == 2
    bench.send(to(A4, 20_000))
    assert bench.tun.reads == 4
    assert len(bench.frames(A)) == 2


# Flows


def test_a_flow_is_decided_once(bench: Bench) -> None:
    bench.send(to(A4), to(A4))
    bench.send(to(A4))
    assert bench.control.looked_up == 1
    bench.send(to(A6), to(B4))
    assert bench.control.looked_up == 3
    bench.inside.forget_flows()
    bench.send(to(A4))
    assert bench.control.looked_up == 4
    assert len(bench.frames(A)) == 5


def test_forgotten_flows_are_decided_anew(bench: Bench) -> None:
    bench.send(to(A4))
    bench.control = FakeControl(*bench.ports.values(), routes=())
    bench.inside._control = bench.control
    bench.send(to(A4))
    assert len(bench.frames(A)) == 2
    bench.inside.forget_flows()
    bench.send(to(A4))
    assert len(bench.frames(A)) == 2
    assert bench.drops.seen() == {"no_route": 1}


def test_the_memory_of_flows_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunmesh.dataplane.inside._MOST_FLOWS", 3)
    for _ in range(2):
        for destination in ("192.168.7.1", "192.168.7.2", "192.168.7.3", "192.168.7.4"):
            bench.send(to(destination))
            assert len(bench.inside._flows) <= 3
    assert len(bench.frames(A)) == 8


def test_a_group_goes_to_each_of_its_nodes(bench: Bench) -> None:
    bench.send(to(GROUP4), to(GROUP6))
    assert bench.units(A) == bench.units(B) == [[to(GROUP4)], [to(GROUP6)]]
    assert bench.counters(A) == bench.counters(B) == (2, 100)
    assert bench.inside.packets == 2


def test_of_a_group_the_nodes_that_are_gone_are_left_out(bench: Bench) -> None:
    del bench.control.ports[A]
    bench.send(to(GROUP4))
    assert bench.units(A) == []
    assert bench.units(B) == [[to(GROUP4)]]
    del bench.control.ports[B]
    bench.inside.forget_flows()
    bench.send(to(GROUP4), to(A4))
    assert bench.drops.seen() == {"peer_gone": 2}


# Drops


@pytest.mark.parametrize(
    ("reason", "dropped"),
    [
        ("unknown_source", frame("10.42.0.99", A4)),
        ("unknown_source", frame("fd42::99", A6)),
        ("loopback", to(HERE4)),
        ("no_route", to("10.42.0.99")),
        ("outside_network", to("8.8.8.8")),
        ("no_group", to("239.9.9.9")),
        ("broadcast_disabled", to("255.255.255.255")),
        ("unsupported", bytes(10) + b"\x50" + bytes(60)),
        ("unsupported", bytes(10) + b"\x45" + bytes(10)),
        ("unsupported", bytes(10) + b"\x60" + bytes(30)),
        ("unsupported", bytes(10)),
    ],
)
def test_what_is_dropped_is_counted_by_its_reason(
    bench: Bench, reason: str, dropped: bytes
) -> None:
    bench.send(dropped, to(A4), dropped, to(A4))
    assert bench.drops.seen() == {reason: 2}
    assert bench.frames(A) == [to(A4)] * 2
    assert bench.inside.packets == 4


def test_dropped_superpackets_count_as_their_packets(bench: Bench) -> None:
    bench.send(tcp_superframe(HERE4, "8.8.8.8", bytes(5000), 1000))
    assert bench.drops.seen() == {"outside_network": 5}


def test_a_full_queue(bench: Bench) -> None:
    bench.transport.full = [True]
    bench.send(to(A4), to(A4))
    assert bench.drops.seen() == {"queue_full": 2}
    assert bench.counters(A) == (0, 0)
    bench.send(to(A4))
    assert bench.counters(A) == (1, 50)


# Claims


def claim(bench: Bench, taken: list[bytes], *icmpv6: int) -> None:
    bench.inside.claims.add([IGMP], icmpv6, lambda packet: taken.append(bytes(packet)))


def test_claimed_packets_go_to_whom_claimed_them(bench: Bench) -> None:
    taken: list[bytes] = []
    claim(bench, taken)
    claimed = frame(HERE4, GROUP4, b"join", IGMP)
    bench.send(claimed, to(GROUP4), claimed, to(GROUP4))
    assert taken == [claimed[10:]] * 2
    assert bench.frames(A) == bench.frames(B) == [to(GROUP4)] * 2
    assert bench.counters(A) == (2, 100)
    assert bench.drops.seen() == {}


def test_claimed_packets_are_found_whatever_becomes_of_their_flow(bench: Bench) -> None:
    taken: list[bytes] = []
    claim(bench, taken)
    for source, group, reason in (
        (HERE4, "239.9.9.9", "no_group"),
        ("0.0.0.0", GROUP4, "unknown_source"),
    ):
        claimed = frame(source, group, b"join", IGMP)
        for _ in range(2):
            bench.send(udp_frame(source, group, b""), claimed)
        assert taken == [claimed[10:]] * 2
        assert bench.drops.seen() == {reason: 2}
        bench.drops.update(dict.fromkeys(bench.drops, 0))
        taken.clear()


def test_of_icmpv6_only_the_types_that_are_claimed_are_taken(bench: Bench) -> None:
    taken: list[bytes] = []
    claim(bench, taken, 143)
    options = bytes((58, 0, 5, 2, 0, 0, 1, 0))  # hop-by-hop: router alert
    report = frame(HERE6, GROUP6, options + bytes((143, 0, 0, 0)), protocol=0)
    echo = frame(HERE6, GROUP6, bytes((128, 0, 0, 0)), protocol=58)
    bench.send(report, echo, report)
    assert taken == [report[10:]] * 2
    assert bench.frames(A) == [echo]


def test_only_packets_to_groups_are_claimed(bench: Bench) -> None:
    taken: list[bytes] = []
    claim(bench, taken)
    sent = frame(HERE4, A4, b"join", IGMP)
    bench.send(sent)
    assert bench.frames(A) == [sent]
    assert not taken


def test_a_claimed_packet_that_is_malformed_is_counted(bench: Bench) -> None:
    def refuse(packet: memoryview) -> None:
        raise BadPacket("no report")

    bench.inside.claims.add([IGMP], (), refuse)
    bench.send(frame(HERE4, GROUP4, b"join", IGMP), to(A4))
    assert bench.drops.seen() == {"bad_packet": 1}
    assert bench.frames(A) == [to(A4)]


def test_flows_are_remembered_with_claims_too(bench: Bench) -> None:
    claim(bench, [])
    for destination in (GROUP4, GROUP6, A4, A6):
        before = bench.control.looked_up
        for _ in range(3):
            bench.send(to(destination))
        assert bench.control.looked_up - before == 1


# Groups


def test_what_is_sent_to_a_group_is_counted(bench: Bench) -> None:
    bench.send(to(GROUP4), to(GROUP4))
    bench.inside.forget_flows()
    bench.send(to(GROUP4))
    traffic = bench.inside.groups[ip_address(GROUP4).packed]
    assert (traffic.packets, traffic.replicas, traffic.bytes) == (3, 6, 150)


def test_a_group_may_send_at_its_limit_and_no_more(bench: Bench) -> None:
    limited = Route(ip_network(GROUP4), "multicast", (A,), limit=10)
    bench.control.set_routes([limited, route(A4, "address", A)])
    for _ in range(100):
        bench.send(to(GROUP4), to(A4))
        bench.now += 0.01
    arrived = bench.frames(A)
    assert arrived.count(to(A4)) == 100
    assert 19 <= arrived.count(to(GROUP4)) <= 21  # a burst of one second's, and one second's
    assert bench.drops.seen() == {"rate_limited": 100 - arrived.count(to(GROUP4))}
    bench.now += 60
    for _ in range(30):
        bench.send(to(GROUP4))
    assert bench.frames(A).count(to(GROUP4)) == arrived.count(to(GROUP4)) + 10


def test_only_so_many_groups_are_counted(bench: Bench) -> None:
    groups = [str(ip_address("239.0.0.0") + number) for number in range(5000)]
    bench.control.set_routes([Route(ip_network("239.0.0.0/8"), "multicast", (A,))])
    for group in groups:
        bench.send(to(group))
    assert len(bench.inside.groups) == 4096
    assert ip_address(groups[-1]).packed in bench.inside.groups


# Lossy paths


def test_packets_travel_in_single_datagrams(bench: Bench) -> None:
    bench.ports[A].bulk_limit = 4 * SLICE
    frames = [to(A4, 400) for _ in range(15)]
    bench.send(*frames)
    assert bench.frames(A) == frames
    assert [len(unit) for unit in bench.units(A)] == [3, 3, 3, 3, 3]
    assert len(bench.transport.sends) == 1
    assert bench.counters(A) == (15, 6_000)


@pytest.mark.parametrize(("size", "many"), [(706, 1), (707, 2)])
def test_a_datagram_is_filled_to_the_byte(bench: Bench, size: int, many: int) -> None:
    bench.ports[A].bulk_limit = 2 * SLICE
    bench.send(to(A4, size), to(A4, 706))  # two items of 14 bytes each, and a tag of 16
    assert len(bench.units(A)) == many


def test_order_is_kept_between_pieces_and_packets(bench: Bench) -> None:
    bench.ports[A].bulk_limit = 3 * SLICE
    superframe = tcp_superframe(HERE4, A4, bytes(9000), 1000)
    bench.send(to(A4), superframe, to(A4, 100), superframe)
    plain = [packet for frame in bench.frames(A) for packet in split(frame, 1)]
    assert plain == [to(A4), *split(superframe, 1), to(A4, 100), *split(superframe, 1)]


def test_units_of_one_datagram_share_a_send(bench: Bench) -> None:
    bench.ports[A].bulk_limit = SLICE
    frames = [to(A4, 1400)] * 12
    bench.send(*frames)
    assert bench.units(A) == [[each] for each in frames]
    assert [len(sent.datagrams) for sent in bench.transport.sends] == [12]


@pytest.mark.parametrize("slices", [1, 3, 10])
def test_superpackets_are_cut_to_the_limit(bench: Bench, slices: int) -> None:
    bench.ports[A].bulk_limit = limit = slices * SLICE
    superframe = tcp_superframe(HERE4, A4, bytes(range(250)) * 100, 1000)
    bench.send(to(A4), superframe)
    first, *pieces = bench.frames(A)
    assert first == to(A4)
    for piece in pieces:
        check_frame_untrusted(piece)
    assert [plain for piece in pieces for plain in split(piece, 1)] == split(superframe, 1)
    assert all(len(unit_of(*unit)) + 16 <= limit for unit in bench.units(A))
    # None is cut finer than need be.
    assert len(bench.units(A)) <= 2 + -(-25_000 // ((limit - 70) // 1000 * 1000))
    assert bench.counters(A) == (26, 25_050 + 25 * 40)


def test_what_cannot_be_cut_has_a_larger_unit_of_its_own(bench: Bench) -> None:
    bench.ports[A].bulk_limit = SLICE
    large = to(A4, 3000)
    segments = tcp_superframe(HERE4, A4, bytes(4000), 2000)
    bench.send(to(A4), large, to(A4), segments)
    assert bench.units(A) == [[to(A4)], [large], [to(A4)], *([each] for each in split(segments, 1))]


def test_a_full_queue_on_a_lossy_path(bench: Bench) -> None:
    bench.ports[A].bulk_limit = 2 * SLICE
    bench.transport.full = [True, False]
    bench.send(*[to(A4, 2000)] * 2)
    assert len(bench.transport.sends) == 2
    assert bench.drops.seen() == {"queue_full": 2}
    bench.ports[A].bulk_limit = SLICE
    bench.transport.full = [True]
    bench.send(to(A4))
    assert bench.drops.seen() == {"queue_full": 3}


@given(
    st.lists(st.integers(41, 4000), min_size=1, max_size=25),
    st.integers(1, 5),
    st.sampled_from([492, 1456, 8000]),
)
def test_any_frames_on_a_lossy_path(sizes: list[int], slices: int, slice_size: int) -> None:
    bench = Bench()
    port = bench.ports[A]
    port.slice_size, port.bulk_limit = slice_size, slices * slice_size
    frames = [to(A4, size) for size in sizes]
    bench.send(*frames)
    bench.inside.read()
    assert bench.frames(A) == frames
    for unit in bench.units(A):
        assert len(unit) == 1 or len(unit_of(*unit)) + 16 <= port.bulk_limit


# Peers that cannot be reached yet


def test_packets_wait_for_the_session(bench: Bench) -> None:
    bench.disconnect(A)
    bench.send(to(A4), to(A4, 60))
    bench.send(to(A4, 70))
    assert bench.control.told == [("wanted", bench.ports[A])] * 2
    assert bench.ports[A].used
    assert bench.counters(A) == (0, 0)
    bench.now += 1.9
    bench.connect(A)
    bench.inside.flush(bench.ports[A])
    assert bench.frames(A) == [to(A4), to(A4, 60), to(A4, 70)]
    assert bench.counters(A) == (3, 180)
    bench.inside.flush(bench.ports[A])
    assert len(bench.frames(A)) == 3
    assert bench.drops.seen() == {}


@pytest.mark.parametrize("what", ["tx_keypair", "handle"])
def test_a_session_without_a_path_is_not_enough_nor_the_reverse(bench: Bench, what: str) -> None:
    setattr(bench.ports[A], what, None)
    bench.send(to(A4))
    assert bench.frames(A) == []
    assert len(bench.ports[A].staged) == 1


def test_packets_that_waited_too_long_are_dropped(bench: Bench) -> None:
    bench.disconnect(A)
    bench.send(to(A4), to(A4))
    bench.now += 1.0
    bench.send(to(A4, 60))
    bench.now += 1.5
    bench.connect(A)
    bench.inside.flush(bench.ports[A])
    assert bench.frames(A) == [to(A4, 60)]
    assert bench.drops.seen() == {"peer_gone": 2}


def test_old_packets_make_room_for_new_ones(bench: Bench) -> None:
    bench.disconnect(A)
    bench.send(to(A4), to(A4))
    bench.now += 2.1
    bench.send(to(A4, 60))
    assert len(bench.ports[A].staged) == 1
    assert bench.drops.seen() == {"peer_gone": 2}
    for number in range(100):
        bench.send(to(A4, 100 + number))
    assert len(bench.ports[A].staged) == 64
    bench.connect(A)
    bench.inside.flush(bench.ports[A])
    assert bench.frames(A) == [to(A4, 136 + number) for number in range(64)]
    assert bench.drops.seen() == {"peer_gone": 2 + 37}


def test_bulk_does_not_wait(bench: Bench) -> None:
    bench.disconnect(A)
    bench.send(tcp_superframe(HERE4, A4, bytes(30_000), 1000))
    assert bench.ports[A].staged == []
    assert bench.drops.seen() == {"peer_gone": 30}


# Nonsense


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_random_bytes_from_the_device_never_raise(
    frames: list[bytes], claims: bool, lossy: bool
) -> None:
    bench = Bench()
    if claims:
        bench.inside.claims.add([IGMP], [143], lambda _: None)
    if lossy:
        bench.ports[A].bulk_limit = SLICE
    bench.send(*(bytes(10) + each for each in frames))
    assert bench.inside.packets == len(frames)


@given(st.binary(min_size=20, max_size=200), st.data())
def test_random_packets_of_valid_flows_travel_unchanged(body: bytes, data: st.DataObject) -> None:
    bench = Bench()
    destination = data.draw(st.sampled_from([A4, A6, B4, GROUP4]))
    sent = udp_frame(HERE6 if ":" in destination else HERE4, destination, body)
    bench.send(sent)
    assert bench.frames(B if destination == B4 else A) == [sent]
    assert as_item(1, sent) == unit_of(sent)
