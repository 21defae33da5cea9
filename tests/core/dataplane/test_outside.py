"""From a path to the host: joined, opened, checked against the sender, written."""

from __future__ import annotations

import random

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
    FakeControl,
)
from tests.core.fakes import (
    ALL_OFFLOADS,
    RecordingTransport,
    as_item,
    frame,
    keypairs,
    packet,
    tcp_superframe,
    udp_frame,
    unit_of,
)
from tunmesh.counters import Drops
from tunmesh.dataplane import Outside, Port
from tunmesh.dataplane.claims import Claims
from tunmesh.interfaces.transport import PathHandle
from tunmesh.interfaces.tun import Buffer
from tunmesh.offload import adapt, check_frame_untrusted, split
from tunmesh.session.units import HEADER, LARGEST_UNIT, Sealer
from tunmesh.testing import MemoryTun

SLICE = 1456
PAD, CONTROL = 0, 2


class Bench:
    """The outside of a node, and the peer A that sends to it."""

    def __init__(self, offloads: frozenset[str] = ALL_OFFLOADS) -> None:
        self.now = 100.0
        self.tun = MemoryTun(offloads=offloads)
        self.port = Port(A)
        self.control = FakeControl(self.port)
        self.drops = Drops()
        self.claims = Claims()
        self.outside = Outside(self.tun, self.control, self.drops, lambda: self.now, self.claims)
        self.theirs, self.ours = keypairs()
        self.ours.peer = self.port
        self.outside.keypairs[self.ours.local_index] = self.ours
        self.handle = RecordingTransport().connect("test://a:1")
        self.port.rx_handle, self.port.rx_keypair = self.handle, self.ours
        self._wire = RecordingTransport()
        self._to_here = self._wire.connect("test://here:1")
        self._sealer = Sealer()

    def seal(self, plain: bytes, slice_size: int = SLICE) -> list[bytes]:
        """The datagrams of a unit that A sends."""
        self._sealer.send(self.theirs, plain, self._to_here, slice_size)
        return self._wire.taken()

    def receive(self, *datagrams: Buffer, handle: PathHandle | None = None) -> None:
        """Let datagrams arrive at once, as a transport with receive offload tells them."""
        data = memoryview(b"".join(datagrams))
        self.outside.receive(handle or self.handle, data, len(datagrams[0]))

    def receive_each(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.receive(datagram)

    def deliver(self, plain: bytes) -> None:
        self.receive(*self.seal(plain))

    @property
    def written(self) -> list[bytes]:
        return self.tun.written

    @property
    def counters(self) -> tuple[int, int]:
        assert (self.outside.packets, self.outside.bytes) == (
            self.port.rx_packets,
            self.port.rx_bytes,
        )
        return self.port.rx_packets, self.port.rx_bytes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def of(source: str, destination: str = HERE4, size: int = 50) -> bytes:
    return frame(source, destination, bytes(size - (40 if ":" in source else 20)))


# Units


@pytest.mark.parametrize("each", [of(A4), of(A6, HERE6), of("192.168.7.9")])
def test_a_packet_arrives_as_it_is(bench: Bench, each: bytes) -> None:
    bench.deliver(unit_of(each))
    assert bench.written == [each]
    assert bench.counters == (1, 50)
    assert bench.control.told == []
    assert bench.drops.seen() == {}
    assert bench.ours.rx_units == bench.ours.rx_expected == bench.ours.rx_got == 1
    assert bench.ours.received_bytes == len(unit_of(each))
    assert bench.ours.replay.highest == 0


@pytest.mark.parametrize("count", [2, 45])
def test_a_unit_of_many_slices_at_once(bench: Bench, count: int) -> None:
    each = of(A4, size=1456 * (count - 1))
    bench.deliver(unit_of(each))
    assert bench.written == [each]
    assert bench.ours.rx_units == 1
    assert bench.ours.rx_expected == bench.ours.rx_got == count
    assert len(bench.port.reassembler) == 0


@given(
    st.lists(st.integers(1, 8000), min_size=1, max_size=6),
    st.sampled_from([492, 1456, 60_000]),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 99)),
)
def test_any_order_and_duplicates_deliver_each_unit_once(
    sizes: list[int], slice_size: int, rng: random.Random, doubled: set[int]
) -> None:
    bench = Bench()
    frames = [of(A4, size=20 + size) for size in sizes]
    arriving = [piece for each in frames for piece in bench.seal(unit_of(each), slice_size)]
    arriving += [arriving[number] for number in doubled if number < len(arriving)]
    rng.shuffle(arriving)
    bench.receive_each(*arriving)
    assert sorted(bench.written) == sorted(frames)
    assert bench.counters == (len(frames), sum(map(len, frames)) - 10 * len(frames))
    assert set(bench.drops.seen()) <= {"replay"}


def test_slices_of_two_units_that_look_like_one(bench: Bench) -> None:
    one, two = of(A4, size=2000), of(A4, size=1999)
    first, second = bench.seal(unit_of(one) + b"\0"), bench.seal(unit_of(two) + b"\0\0")
    bench.receive(first[0], second[1])
    assert bench.written == []
    bench.receive(second[0], first[1])
    assert bench.written in ([one, two], [two, one])
    assert bench.drops.seen() == {}


def test_several_units_at_once_are_taken_apart(bench: Bench) -> None:
    frames = [of(A4, size=100)] * 5
    bench.receive(*(bench.seal(unit_of(each))[0] for each in frames))
    assert bench.written == frames


def test_a_unit_whose_slices_came_with_another_is_still_joined(bench: Bench) -> None:
    whole, cut = bench.seal(unit_of(of(A4, size=3000))), bench.seal(unit_of(of(A4, size=2900)))
    bench.receive(whole[1], cut[-1])
    bench.receive(cut[0], whole[-1])
    bench.receive(whole[0], cut[1])
    assert sorted(map(len, bench.written)) == [2910, 3010]


def test_what_waits_too_long_for_its_slices_is_counted_when_room_is_needed(bench: Bench) -> None:
    for _ in range(32):
        bench.receive(bench.seal(unit_of(of(A4, size=3000)))[0])
    bench.receive(bench.seal(unit_of(of(A4, size=3000)))[0])
    assert bench.drops.seen() == {"incomplete": 1}
    bench.now += 2
    bench.receive(bench.seal(unit_of(of(A4, size=3000)))[0])
    assert bench.drops.seen() == {"incomplete": 33}


def test_bytes_are_counted_with_the_path(bench: Bench) -> None:
    datagrams = bench.seal(unit_of(of(A4, size=3000)))
    bench.receive(*datagrams)
    bench.receive(b"nonsense")
    assert bench.handle.rx_bytes == sum(map(len, datagrams)) + 8


# What does not authenticate


def test_a_replay_is_dropped_whole_or_in_slices(bench: Bench) -> None:
    small, large = bench.seal(unit_of(of(A4))), bench.seal(unit_of(of(A4, size=3000)))
    for datagrams in (small, large):
        bench.receive(*datagrams)
        bench.receive(*datagrams)
        bench.receive_each(*datagrams)
    assert len(bench.written) == 2
    assert bench.drops.seen() == {"replay": 2 + 1 + 3}
    assert len(bench.port.reassembler) == 0


@pytest.mark.parametrize("at", [4, 7, 8, 12, 15, 16, -1])
def test_a_unit_that_was_tampered_with(bench: Bench, at: int) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    forged = bytearray(datagram)
    forged[at] ^= 1
    bench.receive(forged)
    assert bench.written == []
    assert bench.ours.replay.highest == -1
    assert sum(bench.drops.values()) <= 1
    bench.receive(datagram)
    assert bench.written == [of(A4)]


def test_a_unit_under_no_known_keypair(bench: Bench) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    del bench.outside.keypairs[bench.ours.local_index]
    bench.receive(datagram)
    assert bench.control.told == [("unknown index", bench.handle)]
    assert bench.drops.seen() == {"auth_failed": 1}


def test_a_spoiled_unit_is_reported_as_its_slices_lost(bench: Bench) -> None:
    datagrams = bench.seal(unit_of(of(A4, size=3000)))
    forged = bytearray(datagrams[1])
    forged[-1] ^= 1
    bench.receive(datagrams[0], forged, datagrams[2])
    assert (bench.ours.rx_expected, bench.ours.rx_got, bench.ours.rx_units) == (3, 0, 0)
    assert bench.drops.seen() == {"auth_failed": 1}
    bench.receive(*datagrams)
    assert len(bench.written) == 1


def test_a_spoiled_unit_of_one_slice_tells_nothing_of_loss(bench: Bench) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    bench.receive(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    bench.receive(datagram[:-1] + bytes([datagram[-1] ^ 2]), b"")
    assert bench.ours.rx_expected == 0
    assert bench.drops.seen() == {"auth_failed": 2}


# What is no data


def test_other_messages_are_the_control_planes(bench: Bench) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    bench.receive(b"\x01 initiation" + bytes(30))
    bench.receive(b"\x02")
    bench.receive(datagram, b"\x03 the end")
    assert bench.control.told == [
        ("handshake", bench.handle, b"\x01 initiation" + bytes(30)),
        ("handshake", bench.handle, b"\x02"),
        ("handshake", bench.handle, b"\x03 the end"),
    ]
    assert bench.written == [of(A4)]


@pytest.mark.parametrize("size", [1, 15, 16])
def test_too_short_for_data(bench: Bench, size: int) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    bench.receive(datagram[:size])
    assert bench.drops.seen() == {"bad_packet": 1}


def test_nothing_at_all(bench: Bench) -> None:
    bench.outside.receive(bench.handle, memoryview(b""), 0)
    assert bench.drops.seen() == {}


@pytest.mark.parametrize("size", [17, 31, 40, -1])
def test_a_truncated_unit_is_ignored(bench: Bench, size: int) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    bench.receive(datagram[:size])
    assert bench.written == []
    assert len(bench.port.reassembler) == 0


def test_slices_of_no_bytes(bench: Bench) -> None:
    (datagram,) = bench.seal(unit_of(of(A4)))
    bench.receive(datagram[:2] + bytes(2) + datagram[4:])
    assert bench.written == []


# Items


def test_items_that_are_no_frames_are_the_control_planes(bench: Bench) -> None:
    bench.deliver(as_item(CONTROL, b"one") + unit_of(of(A4)) + as_item(9, b"") + as_item(PAD, b"x"))
    assert bench.control.told == [
        ("item", CONTROL, b"one"),
        ("item", 9, b""),
        ("item", PAD, b"x"),
    ]
    assert bench.written == [of(A4)]


@pytest.mark.parametrize("rest", [b"", b"\x01", b"\x01\0\0"])
def test_less_than_a_prefix_is_padding(bench: Bench, rest: bytes) -> None:
    bench.deliver(unit_of(of(A4)) + rest)
    assert bench.written == [of(A4)]
    assert bench.drops.seen() == {}


@pytest.mark.parametrize("kind", [1, CONTROL])
def test_an_item_beyond_the_end(bench: Bench, kind: int) -> None:
    bench.deliver(unit_of(of(A4)) + as_item(kind, bytes(50))[:-1])
    assert bench.written == [of(A4)]
    assert bench.control.told == []
    assert bench.drops.seen() == {"bad_packet": 1}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        bytes(29),
        bytes(10) + b"\x50" + bytes(60),
        of(A4)[:-1],
        b"\x04" + of(A4)[1:],
        b"\x01\x01" + of(A4)[2:],
    ],
)
def test_a_malformed_frame_does_not_stop_the_others(bench: Bench, bad: bytes) -> None:
    bench.deliver(unit_of(of(A4), bad, of(A4, size=60)))
    assert bench.written == [of(A4), of(A4, size=60)]
    assert bench.drops.seen() == {"bad_packet": 1}


def test_whom_is_heard(bench: Bench) -> None:
    elsewhere = RecordingTransport().connect("test://moved:1")
    bench.receive(*bench.seal(b""))
    assert bench.control.told == []
    bench.receive(*bench.seal(b""), handle=elsewhere)
    assert bench.control.told == [("heard", bench.ours, elsewhere)]
    bench.port.rx_keypair = None
    bench.receive(*bench.seal(b""))
    assert bench.control.told[1:] == [("heard", bench.ours, bench.handle)]


# Who may send what


@pytest.mark.parametrize(
    ("reason", "dropped"),
    [
        ("spoofed_source", of(B4)),
        ("spoofed_source", of(HERE4)),
        ("spoofed_source", of("8.8.8.8")),
        ("spoofed_source", of("fd42::b", HERE6)),
        ("misrouted", of(A4, B4)),
        ("misrouted", of(A4, "8.8.8.8")),
        ("misrouted", of(A4, GROUP4)),
        ("misrouted", of(A6, "fd42::b")),
    ],
)
def test_what_a_peer_may_not_send(bench: Bench, reason: str, dropped: bytes) -> None:
    bench.deliver(unit_of(of(A4), dropped, dropped, of(A4)))
    assert bench.written == [of(A4)] * 2
    assert bench.drops.seen() == {reason: 2}
    assert bench.counters == (2, 100)


def test_groups_of_this_host(bench: Bench) -> None:
    bench.deliver(unit_of(of(A4, OWN_GROUP4)))
    assert bench.written == [of(A4, OWN_GROUP4)]


def test_a_flow_that_is_allowed_is_looked_up_once(bench: Bench) -> None:
    for _ in range(3):
        bench.deliver(unit_of(of(A4), of(A4)))
    assert bench.control.looked_up == 1
    bench.deliver(unit_of(of(A6, HERE6), of(A6, HERE6)))
    assert bench.control.looked_up == 2
    bench.port.verified.clear()
    bench.deliver(unit_of(of(A4), of(A6, HERE6)))
    assert bench.control.looked_up == 4
    bench.deliver(unit_of(of(B4), of(B4)))
    assert bench.control.looked_up == 6


def test_the_memory_of_flows_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunmesh.dataplane.outside._MOST_VERIFIED", 3)
    for number in range(1, 11):
        bench.deliver(unit_of(of(f"192.168.7.{number}")))
        assert 0 < len(bench.port.verified) <= 3
    assert len(bench.written) == 10


# The device


def test_refused_frames_are_counted(bench: Bench) -> None:
    bench.tun.refuses = lambda each: len(each) > 60
    bench.deliver(unit_of(of(A4), of(A4, size=70), of(A4)))
    assert bench.written == [of(A4)] * 2
    assert bench.drops.seen() == {"tun_error": 1}


def test_superpackets_count_as_the_packets_they_stand_for(bench: Bench) -> None:
    superframe = tcp_superframe(A4, HERE4, bytes(5500), 1000)
    bench.deliver(unit_of(superframe))
    assert bench.written == [superframe]
    assert bench.counters == (6, 5500 + 6 * 40)


@pytest.mark.parametrize(
    "offloads",
    [frozenset(), frozenset({"csum"}), frozenset({"csum", "tso4", "uso4"})],
    ids=lambda offloads: ",".join(sorted(offloads)) or "none",
)
def test_a_device_gets_what_it_can_take(offloads: frozenset[str]) -> None:
    bench = Bench(offloads)
    frames = [
        tcp_superframe(A4, HERE4, bytes(range(200)) * 20, 1000),
        tcp_superframe(A6, HERE6, bytes(range(200)) * 20, 1000),
        *(udp_frame(A6, HERE6, bytes([number]) * 80) for number in range(9)),
        of(A4),
    ]
    bench.deliver(unit_of(*frames))
    assert bench.written == [piece for each in frames for piece in adapt(each, offloads)]
    if not offloads:
        assert len(bench.written) == 4 + 4 + 9 + 1
        assert all(each[:10] == bytes(10) for each in bench.written)
    assert bench.counters[0] == 4 + 4 + 9 + 1


def test_a_packet_for_this_host(bench: Bench) -> None:
    bench.outside.write_packet(packet(A4, HERE4, b"report", 2))
    assert bench.written == [frame(A4, HERE4, b"report", 2)]
    bench.tun.refuses = lambda _: True
    bench.outside.write_packet(packet(A4, HERE4, b"report", 2))
    assert bench.drops.seen() == {"tun_error": 1}


# Many datagrams of one flow


@pytest.mark.parametrize(("source", "here"), [(A4, HERE4), (A6, HERE6)])
@pytest.mark.parametrize(
    ("count", "size", "written"),
    [(3, 60, [3]), (64, 20, [64]), (65, 20, [64, 1]), (150, 20, [64, 64, 22]), (40, 1372, [40])],
)
def test_equal_datagrams_of_one_flow_are_written_as_few(
    bench: Bench, source: str, here: str, count: int, size: int, written: list[int]
) -> None:
    frames = [
        udp_frame(source, here, random.Random(number).randbytes(size)) for number in range(count)
    ]
    bench.receive(*bench.seal(unit_of(*frames), 1456 if size < 1000 else 65_000))
    assert [len(split(each, 1)) for each in bench.written] == written
    for each in bench.written:
        check_frame_untrusted(each)
    assert payloads(bench.written) == payloads(frames)
    assert bench.counters == (count, sum(map(len, frames)) - 10 * count)
    assert bench.control.looked_up == 1


def payloads(frames: list[bytes]) -> list[bytes]:
    """The packets without what coalescing may change: IPv4 id and header checksum."""
    pieces = [piece for each in frames for piece in split(each, 1)]
    return [each[:14] + each[16:20] + each[22:] if each[10] >> 4 == 4 else each for each in pieces]


def variants(frames: list[bytes]) -> dict[str, list[bytes]]:
    """Units that are almost of equal datagrams of one flow."""
    odd = frames[2]
    return {
        "equal": frames,
        "other port": [*frames[:2], udp_frame(A4, HERE4, bytes(80), port=54), *frames[3:]],
        "other source": [*frames[:2], udp_frame("192.168.7.1", HERE4, bytes(80)), *frames[3:]],
        "other size": [*frames, udp_frame(A4, HERE4, bytes(81))],
        "two": frames[:2],
        "no offload": [*frames[:2], bytes(10) + odd[10:], *frames[3:]],
        "malformed first": [b"\x04" + frames[0][1:], *frames[1:]],
        "tcp": [frame(A4, HERE4, bytes(100), 6)] * 5,
        "plain": [frame(A4, HERE4, bytes(100), 17)] * 5,
    }


@pytest.mark.parametrize("name", variants([b""] * 5))
def test_coalescing_or_not_the_host_sees_the_same(name: str) -> None:
    frames = variants([udp_frame(A4, HERE4, bytes([number]) * 80) for number in range(5)])[name]
    joining, plain = Bench(), Bench(ALL_OFFLOADS - {"uso6"})
    for bench in (joining, plain):
        bench.deliver(unit_of(*frames))
    assert payloads(joining.written) == payloads(plain.written)
    assert joining.counters == plain.counters
    assert joining.drops == plain.drops
    assert (len(joining.written) < len(plain.written)) == (name == "equal")


@pytest.mark.parametrize(
    ("reason", "source", "destination"), [("spoofed_source", B4, HERE4), ("misrouted", A4, B4)]
)
def test_what_may_not_be_sent_may_not_be_coalesced(
    bench: Bench, reason: str, source: str, destination: str
) -> None:
    frames = [udp_frame(source, destination, bytes([number]) * 80) for number in range(70)]
    bench.deliver(unit_of(*frames))
    assert bench.written == []
    assert bench.drops.seen() == {reason: 70}
    assert bench.counters == (0, 0)
    assert bench.control.looked_up == 1


def test_refused_superpackets_are_counted(bench: Bench) -> None:
    bench.tun.refuses = lambda _: True
    bench.deliver(unit_of(*[udp_frame(A4, HERE4, bytes(80))] * 70))
    assert bench.drops.seen() == {"tun_error": 2}


# Many datagrams with one call


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=6),
    st.sampled_from([492, 496, 1456]),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from([0, 0, 3]),
)
def test_datagrams_in_runs_deliver_each_unit_once(
    sizes: list[int],
    slice_size: int,
    rng: random.Random,
    shuffled: bool,
    offset: int,
) -> None:
    bench = Bench()
    frames = [of(A4, size=20 + size) for size in sizes]
    arriving = [piece for each in frames for piece in bench.seal(unit_of(each), slice_size)]
    if shuffled:
        rng.shuffle(arriving)
    buffer = bytearray(20_000)  # as a transport's that reads into one buffer
    while arriving:
        size = len(arriving[0])
        run = [arriving.pop(0)]
        while arriving and len(run[-1]) == size and len(arriving[0]) <= size and len(run) < 12:
            run.append(arriving.pop(0))
        end = offset + sum(map(len, run))
        buffer[offset:end] = b"".join(run)
        bench.outside.receive(bench.handle, memoryview(buffer)[offset:end], size)
    assert sorted(bench.written) == sorted(frames)
    assert bench.drops.seen() == {}
    assert bench.ours.rx_units == len(frames)
    assert bench.ours.rx_got == bench.ours.rx_expected


def test_a_buffer_used_again_for_other_paths_and_sizes(bench: Bench) -> None:
    buffers = bytearray(65_536), bytearray(65_536)
    for number in range(60):
        each = of(A4, size=20 + 1500 + 31 * number)
        datagrams = bench.seal(unit_of(each), 500 + number % 30)
        data = b"".join(datagrams)
        begin = 0 if number % 3 else 100
        buffer = buffers[number > 50]
        buffer[begin : begin + len(data)] = data
        view = memoryview(buffer)[begin : begin + len(data)]
        bench.outside.receive(bench.handle, view, len(datagrams[0]))
        assert bench.written[-1] == each
        assert len(bench.outside._views) <= 16
    assert len(bench.written) == 60


def test_runs_of_two_units_and_a_shorter_end(bench: Bench) -> None:
    one, two = of(A4, size=3000), of(A4, size=2000)
    first, second = bench.seal(unit_of(one), 496), bench.seal(unit_of(two), 496)
    bench.receive(*first[1:-1], *second)
    assert bench.written == [two]
    bench.receive(first[0], first[-1])
    assert bench.written == [two, one]
    assert bench.drops.seen() == {}


def test_a_shorter_end_of_another_unit(bench: Bench) -> None:
    one, two = of(A4, size=3000), of(A4, size=2000)
    first, second = bench.seal(unit_of(one), 496), bench.seal(unit_of(two), 496)
    bench.receive(*second[:-1], first[-1])
    bench.receive(*first[:-1], second[-1])
    assert sorted(bench.written) == sorted([one, two])


def test_a_run_that_was_seen_before_is_a_replay(bench: Bench) -> None:
    first = bench.seal(unit_of(of(A4, size=3000)), 496)
    second = bench.seal(unit_of(of(A4, size=2000)), 496)
    bench.receive(*first)
    bench.receive(*first[1:-1], *second)
    assert len(bench.written) == 2
    assert bench.drops.seen() == {"replay": 1}


@pytest.mark.parametrize(
    ("at", "told"), [(0, "handshake"), (1, None), (2, None), (4, "unknown index")]
)
def test_a_run_whose_headers_make_no_sense(bench: Bench, at: int, told: str | None) -> None:
    datagrams = bench.seal(unit_of(of(A4, size=3000)), 496)
    forged = [bytearray(datagram) for datagram in datagrams[:4]]
    for each in forged:
        each[at] ^= 0x80
    bench.receive(datagrams[5], *forged)
    assert [each[0] for each in bench.control.told] == [told] * 4 * bool(told)
    assert bench.ours.replay.highest == -1
    bench.receive(*datagrams)
    assert bench.written == [of(A4, size=3000)]


@pytest.mark.parametrize("size", [8, 16, 24, 40])
def test_runs_of_datagrams_too_small_for_slices(bench: Bench, size: int) -> None:
    header = HEADER.pack(4, 0, 24, bench.ours.local_index, 100)
    bench.receive(*[(header * 3)[:size]] * 6)
    assert bench.written == []
    assert bench.ours.replay.highest == -1


# Nonsense


@given(
    st.one_of(
        st.binary(max_size=100),
        st.builds(
            lambda index, size, word, rest: HEADER.pack(4, index, size, 0xA0B0C0D0, word) + rest,
            st.integers(0, 3),
            st.integers(0, 100),
            st.one_of(st.integers(0, 200), st.integers(0, 2**64 - 1)),
            st.binary(max_size=200),
        ),
    ),
    st.integers(1, 120),
)
def test_random_datagrams_change_nothing(data: bytes, segment_size: int) -> None:
    bench = Bench()
    for _ in range(2):
        bench.outside.receive(bench.handle, memoryview(data), segment_size)
    assert bench.written == []
    assert bench.ours.replay.highest == -1
    assert bench.ours.rx_units == 0
    assert all(told[0] in {"handshake", "unknown index"} for told in bench.control.told)


bodies = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda each, at, new: each[:at] + new + each[at + len(new) :],
        st.sampled_from(
            [
                udp_frame(A4, HERE4, bytes(40)),
                tcp_superframe(A4, HERE4, bytes(100), 30),
                tcp_superframe(A6, HERE6, bytes(100), 30),
            ]
        ),
        st.integers(0, 60),
        st.binary(max_size=4),
    ),
)


@given(
    st.lists(st.tuples(st.integers(0, 6), bodies, st.integers(1, 5)), max_size=6),
    st.binary(max_size=5),
    st.booleans(),
)
def test_random_items_of_a_peer_never_raise(
    parts: list[tuple[int, bytes, int]], rest: bytes, adapts: bool
) -> None:
    bench = Bench(frozenset() if adapts else ALL_OFFLOADS)
    plain = b"".join(as_item(kind, body) * times for kind, body, times in parts) + rest
    bench.deliver(plain)
    for each in bench.written:
        check_frame_untrusted(each)
        assert each[22:26] == b"\x0a\x2a\x00\x0a" or each[10] >> 4 == 6


def test_a_unit_larger_than_any_may_be(bench: Bench) -> None:
    # A peer may seal what this node would never send, if a transport brings so much at once.
    huge = unit_of(*[udp_frame(A4, HERE4, bytes(65_100))] * 3)
    word = bench.theirs.send_counter << 20 | len(huge) + 16
    header = HEADER.pack(4, 0, 50_000, bench.ours.local_index, word)
    nonce = (bench.theirs.send_iv ^ word).to_bytes(12, "big")
    sealed = bench.theirs.send_aead.encrypt(nonce, huge, header[4:])
    assert len(sealed) > LARGEST_UNIT
    cuts = [sealed[at : at + 50_000] for at in range(0, len(sealed), 50_000)]
    bench.receive(*(header[:1] + bytes([n]) + header[2:] + cut for n, cut in enumerate(cuts)))
    assert bench.written == []
    assert bench.ours.rx_units == 0
    assert len(bench.port.reassembler) == 0


# Claims


def test_of_what_is_claimed_nothing_is_taken_from_the_mesh(bench: Bench) -> None:
    bench.claims.add([2], [143], lambda _: None)
    options = bytes((58, 0, 5, 2, 0, 0, 1, 0))  # hop-by-hop: router alert
    report = frame(A6, HERE6, options + bytes((143, 0, 0, 0)), protocol=0)
    query = frame(A4, OWN_GROUP4, bytes(8), protocol=2)
    usual = udp_frame(A4, OWN_GROUP4, b"data")
    echo = frame(A6, HERE6, bytes((128, 0, 0, 0)), protocol=58)
    for each in (usual, query, echo, report, usual):
        bench.deliver(as_item(1, each))
    assert bench.tun.written == [usual, echo, usual]
    assert bench.drops.seen() == {"misrouted": 2}


def test_fragments_cannot_hide_what_is_claimed(bench: Bench) -> None:
    bench.claims.add([2], [143], lambda _: None)
    fragment = bytes((58, 0, 0, 1)) + bytes(4)
    alert = bytes((44, 0, 5, 2, 0, 0, 1, 0))
    hidden = frame(A6, HERE6, alert + fragment + bytes(8), protocol=0)
    usual = frame(A6, HERE6, fragment + bytes(8), protocol=44)
    broken = frame(A6, HERE6, bytes((58, 9)) + bytes(6), protocol=0)
    for each in (hidden, usual, broken):
        bench.deliver(as_item(1, each))
    assert bench.tun.written == [usual, broken]
    assert bench.drops.seen() == {"misrouted": 1}
