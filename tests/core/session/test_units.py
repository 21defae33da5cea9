"""Units: sealed, sliced, joined; whatever order the slices come in, and whatever comes besides."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.fakes import RecordingTransport, keypairs, units
from tunmesh.session.keypair import Keypair
from tunmesh.session.units import (
    CONTROL,
    DATA,
    HEADER,
    HEADER_SIZE,
    ITEM_PREFIX,
    LARGEST_FRAME,
    LARGEST_UNIT,
    MOST_SLICES,
    TAG_SIZE,
    Reassembler,
    Sealer,
    item,
)

#: Of every path of 508 bytes and more, which is the least that underlays carry.
SMALLEST_SLICE = 492
plains = st.one_of(
    st.binary(max_size=3000),
    st.builds(
        lambda size, seed: random.Random(seed).randbytes(size),
        st.integers(0, LARGEST_UNIT - TAG_SIZE),
        st.integers(0, 9),
    ),
)
slice_sizes = st.one_of(st.integers(SMALLEST_SLICE, 1600), st.integers(SMALLEST_SLICE, 65_491))


class Slice(NamedTuple):
    """One slice, or several consecutive ones: what `Reassembler.add` takes."""

    begin: int
    many: int
    size: int
    word: int
    payload: bytes


def slice_of(datagram: bytes) -> Slice:
    _, index, size, _, word = HEADER.unpack_from(datagram)
    return Slice(index, 1, size, word, datagram[HEADER_SIZE:])


def run_of(pieces: list[Slice]) -> Slice:
    """Consecutive slices as one."""
    payload = b"".join(each.payload for each in pieces)
    return pieces[0]._replace(many=len(pieces), payload=payload)


def slices(size: int, slice_size: int, *, counter: int = 0) -> list[Slice]:
    """The slices of a ciphertext of `size` bytes, which are zero."""
    word = counter << 20 | size
    return [
        Slice(number, 1, slice_size, word, bytes(min(slice_size, size - at)))
        for number, at in enumerate(range(0, size, slice_size))
    ]


def seal(plain: bytes, slice_size: int, *, counter: int = 0) -> tuple[list[bytes], Keypair]:
    here, there = keypairs()
    here.send_counter = counter
    transport = RecordingTransport()
    Sealer().send(here, plain, transport.connect("test://there:1"), slice_size)
    return transport.datagrams, there


# Items and headers


def test_item() -> None:
    assert item(CONTROL, b"abc") == b"\x02\x00\x00\x03abc"
    assert item(CONTROL, bytes(0x012345))[:4] == b"\x02\x01\x23\x45"


@pytest.mark.parametrize("slice_size", [1456, 10])
def test_header_layout(slice_size: int) -> None:
    datagrams, there = seal(b"hello", slice_size, counter=0x123456789AB)
    for index, datagram in enumerate(datagrams):
        assert datagram[0] == 4
        assert datagram[1] == index
        assert datagram[2:4] == slice_size.to_bytes(2, "big")
        assert datagram[4:8] == there.local_index.to_bytes(4, "big") == b"\xa0\xb0\xc0\xd0"
        assert datagram[8:16] == (0x123456789AB << 20 | 21).to_bytes(8, "big")
    assert [len(datagram) - 16 for datagram in datagrams] == (
        [21] if slice_size == 1456 else [10, 10, 1]
    )


def test_nonce_and_associated_data() -> None:
    (datagram,), there = seal(b"hello", 1456, counter=9)
    nonce = bytes(
        a ^ b
        for a, b in zip(there.recv_iv.to_bytes(12, "big"), bytes(4) + datagram[8:16], strict=True)
    )
    assert there.recv_aead.decrypt(nonce, datagram[16:], datagram[4:16]) == b"hello"


# Sealing


@given(plains, slice_sizes, st.integers(1, 64), st.integers(65_507, 200_000))
def test_what_is_sealed_can_be_opened(
    plain: bytes, slice_size: int, max_segments: int, max_send: int
) -> None:
    here, there = keypairs()
    transport = RecordingTransport(max_segments=max_segments, max_send=max_send)
    handle = transport.connect("test://there:1")
    sealer = Sealer()
    before = b"another unit, so that buffers are used again"
    assert sealer.send(here, before, handle, slice_size)
    assert sealer.send(here, plain, handle, slice_size)
    assert units(transport.datagrams, there) == [before, plain]
    assert max(map(len, transport.datagrams)) <= slice_size + HEADER_SIZE
    assert here.send_counter == 2
    assert here.sent_bytes == len(before) + len(plain) + 2 * TAG_SIZE
    assert handle.tx_bytes == sum(map(len, transport.datagrams))


def test_largest_unit_takes_two_sends_on_a_common_path() -> None:
    here, there = keypairs()
    transport = RecordingTransport()
    handle = transport.connect("test://there:1")
    plain = bytes(ITEM_PREFIX + LARGEST_FRAME)
    assert len(plain) + TAG_SIZE == LARGEST_UNIT
    assert Sealer().send(here, plain, handle, 1456)
    assert [len(sent.datagrams) for sent in transport.sends] == [44, 2]
    assert {sent.segment_size for sent in transport.sends} == {1472}
    assert units(transport.datagrams, there) == [plain]


def test_a_unit_just_below_the_limit_takes_one_send() -> None:
    here, _ = keypairs()
    transport = RecordingTransport()
    Sealer().send(here, bytes(44 * 1456 - TAG_SIZE), transport.connect("test://there:1"), 1456)
    assert [len(sent.datagrams) for sent in transport.sends] == [44]


def test_largest_unit_in_the_smallest_slices() -> None:
    datagrams, there = seal(bytes(LARGEST_UNIT - TAG_SIZE), SMALLEST_SLICE)
    assert len(datagrams) <= MOST_SLICES
    assert units(datagrams, there) == [bytes(LARGEST_UNIT - TAG_SIZE)]


def test_receivers_and_slice_sizes_in_turn() -> None:
    pairs = [keypairs(second=second) for second in (5, 6)]
    transport = RecordingTransport()
    handle = transport.connect("test://there:1")
    sealer = Sealer()
    for turn in range(40):  # more slice sizes than the sealer has plans for
        for here, there in pairs:
            plain = random.Random(turn).randbytes(5000 - turn)
            sealer.send(here, plain, handle, SMALLEST_SLICE + turn)
            assert units(transport.taken(), there) == [plain]


@pytest.mark.parametrize("position", range(3))
def test_a_full_queue_is_told_whichever_send_met_it(position: int) -> None:
    here, _ = keypairs()
    transport = RecordingTransport(max_segments=1)
    transport.full = [number == position for number in range(3)]
    handle = transport.connect("test://there:1")
    assert not Sealer().send(here, bytes(1300), handle, 500)
    assert len(transport.sends) == 3
    assert Sealer().send(here, bytes(1300), handle, 500)
    transport.full = [True]
    assert not Sealer().send(here, b"small", handle, 500)
    transport.full = [True]
    assert not Sealer().send(here, bytes(600), RecordingTransport.connect(transport, "x"), 1400)


# Sealing many small units


@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=40),
    st.integers(1, 64),
    st.sampled_from([100, 150, 65_507]),
)
def test_small_units_are_sealed_each(plains: list[bytes], segments: int, max_send: int) -> None:
    here, there = keypairs()
    transport = RecordingTransport(max_segments=segments, max_send=max_send)
    handle = transport.connect("test://there:1")
    assert Sealer().send_each(here, plains, handle, 76)
    assert units(transport.datagrams, there) == plains
    assert here.send_counter == len(plains)
    assert here.sent_bytes == sum(map(len, plains)) + TAG_SIZE * len(plains)
    assert handle.tx_bytes == sum(map(len, transport.datagrams))
    for datagram in transport.datagrams:
        assert HEADER.unpack_from(datagram)[:4] == (DATA, 0, 76, there.local_index)


def test_small_units_of_one_size_share_a_send() -> None:
    here, _ = keypairs()
    transport = RecordingTransport()
    handle = transport.connect("test://there:1")
    plains = [bytes(50)] * 5 + [bytes(20)] + [bytes(50)] * 3 + [bytes(60)]
    Sealer().send_each(here, plains, handle, 1456)
    assert [len(sent.datagrams) for sent in transport.sends] == [6, 3, 1]


@pytest.mark.parametrize("position", range(3))
def test_a_full_queue_is_told_of_small_units_too(position: int) -> None:
    here, _ = keypairs()
    transport = RecordingTransport()
    transport.full = [number == position for number in range(3)]
    handle = transport.connect("test://there:1")
    plains = [bytes(20), bytes(50), bytes(20), bytes(50)]  # begun, ended by a shorter one, left
    assert not Sealer().send_each(here, plains, handle, 1456)
    assert len(transport.sends) == 3


# Joining


@given(st.data(), plains, slice_sizes)
def test_slices_join_in_any_order_among_duplicates(
    data: st.DataObject, plain: bytes, slice_size: int
) -> None:
    datagrams, there = seal(plain, slice_size)
    order = data.draw(st.permutations(range(len(datagrams))))
    reassembler = Reassembler()
    for number in order[:-1]:
        for _ in range(2):
            assert reassembler.add(there, *slice_of(datagrams[number]), now=0.0) == (None, 0)
    sealed, given_up = reassembler.add(there, *slice_of(datagrams[order[-1]]), now=0.0)
    assert sealed == b"".join(datagram[16:] for datagram in datagrams)
    assert given_up == 0
    assert len(reassembler) == 0


@given(st.data(), plains, st.sampled_from([492, 1456]))
def test_runs_of_slices_join_in_any_order(
    data: st.DataObject, plain: bytes, slice_size: int
) -> None:
    datagrams, there = seal(plain, slice_size)
    pieces = [slice_of(datagram) for datagram in datagrams]
    cuts = data.draw(st.sets(st.integers(1, len(pieces)), max_size=6))
    bounds = sorted({0, len(pieces), *cuts})
    runs = [run_of(pieces[begin:end]) for begin, end in pairwise(bounds)]
    order = data.draw(st.permutations(runs))
    reassembler = Reassembler()
    for run in order[:-1]:
        for _ in range(2):
            assert reassembler.add(there, *run, now=0.0) == (None, 0)
    sealed, given_up = reassembler.add(there, *order[-1], now=0.0)
    assert sealed == b"".join(datagram[16:] for datagram in datagrams)
    assert given_up == 0
    assert len(reassembler) == 0


def test_a_run_that_repeats_some_slices_is_ignored() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    pieces = slices(300, 60)
    reassembler.add(keypair, *pieces[2], now=0.0)
    for begin, end in ((1, 3), (2, 4), (0, 4)):
        assert reassembler.add(keypair, *run_of(pieces[begin:end]), now=0.0) == (None, 0)
    assert reassembler.add(keypair, *run_of(pieces[:2]), now=0.0) == (None, 0)
    assert reassembler.add(keypair, *run_of(pieces[3:]), now=0.0) == (bytes(300), 0)


def test_units_of_one_counter_under_two_keypairs_are_two() -> None:
    one, two = keypairs()
    reassembler = Reassembler()
    first, second = slices(100, 60)
    assert reassembler.add(one, *first, now=0.0)[0] is None
    assert reassembler.add(two, *second, now=0.0)[0] is None
    assert reassembler.add(one, *second, now=0.0)[0] == bytes(100)
    assert reassembler.add(two, *first, now=0.0)[0] == bytes(100)


forgeries = st.builds(
    lambda index, count, size, word, length: Slice(index, count, size, word, bytes(length)),
    st.integers(0, 255),
    st.integers(1, 4),
    st.integers(0, 0xFFFF) | st.integers(0, 60),
    st.integers(0, 2**64 - 1) | st.integers(0, 2**20 - 1) | st.integers(0, 300),
    st.integers(0, 400),
)


def fits(forged: Slice) -> bool:
    """Whether these are slices of a possible unit, by trial."""
    length = forged.word & 0xFFFFF
    if not 16 <= length <= LARGEST_UNIT or not forged.size:
        return False
    cuts = [min(forged.size, length - at) for at in range(0, length, forged.size)]
    here = cuts[forged.begin : forged.begin + forged.many]
    return len(cuts) <= 256 and len(here) == forged.many and sum(here) == len(forged.payload)


@given(st.lists(forgeries, max_size=60))
def test_forged_slices_are_ignored_or_kept_within_bounds(received: list[Slice]) -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    for forged in received:
        before = len(reassembler)
        sealed, _ = reassembler.add(keypair, *forged, now=0.0)
        if sealed is not None:
            assert len(sealed) == forged.word & 0xFFFFF
        if not fits(forged):
            assert (sealed, len(reassembler)) == (None, before)
        assert len(reassembler) <= Reassembler.MOST_UNITS


@pytest.mark.parametrize(
    ("index", "count", "slice_size", "length", "size"),
    [
        (0, 1, 0, 100, 100),  # slices of nothing
        (0, 1, 1456, 15, 15),  # less than a tag
        (0, 1, 15, 15, 15),
        (0, 1, 65_535, LARGEST_UNIT + 1, 65_535),
        (2, 1, 60, 100, 40),  # beyond the last slice
        (1, 2, 60, 100, 100),
        (1, 2, 60, 100, 40),
        (0, 3, 60, 100, 100),
        (0, 1, 60, 100, 59),
        (0, 1, 60, 100, 61),
        (0, 2, 60, 100, 120),
        (1, 1, 60, 100, 60),  # the last one is shorter
        (1, 1, 60, 100, 0),
        (0, 1, 255, LARGEST_UNIT, 255),  # more than 256 slices
    ],
)
def test_slices_that_cannot_be(
    index: int, count: int, slice_size: int, length: int, size: int
) -> None:
    reassembler = Reassembler()
    forged = Slice(index, count, slice_size, length, bytes(size))
    assert not fits(forged)
    assert reassembler.add(keypairs()[0], *forged, now=0.0) == (None, 0)
    assert len(reassembler) == 0


def test_extremes_that_can_be() -> None:
    keypair, _ = keypairs()
    for size, slice_size in ((16, 1), (16, 65_535), (LARGEST_UNIT, 257), (LARGEST_UNIT, 65_535)):
        reassembler = Reassembler()
        joined = [reassembler.add(keypair, *each, now=0.0)[0] for each in slices(size, slice_size)]
        assert joined[:-1] == [None] * (len(joined) - 1)
        assert joined[-1] == bytes(size)


def test_a_slice_of_another_size_does_not_mix_in() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    first, second = slices(100, 60)
    assert reassembler.add(keypair, *first, now=0.0) == (None, 0)
    for forged in slices(100, 50):
        assert reassembler.add(keypair, *forged, now=0.0) == (None, 0)
    assert reassembler.add(keypair, *second, now=0.0) == (bytes(100), 0)


def test_the_oldest_unit_is_given_up_when_there_are_too_many() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    for counter in range(Reassembler.MOST_UNITS):
        first, second, third = slices(150, 60, counter=counter)
        assert reassembler.add(keypair, *first, now=0.0) == (None, 0)
    assert len(reassembler) == Reassembler.MOST_UNITS == 32
    first, second, third = slices(150, 60, counter=1000)
    assert reassembler.add(keypair, *first, now=0.5) == (None, 1)
    assert len(reassembler) == 32
    assert (keypair.rx_units, keypair.rx_expected, keypair.rx_got) == (1, 3, 1)
    # The first is gone, all others are still there.
    _, second, third = slices(150, 60, counter=1)
    assert reassembler.add(keypair, *second, now=0.5)[0] is None
    assert reassembler.add(keypair, *third, now=0.5)[0] == bytes(150)
    _, second, third = slices(150, 60, counter=0)
    reassembler.add(keypair, *second, now=0.5)
    assert reassembler.add(keypair, *third, now=0.5)[0] is None


def test_what_is_too_old_goes_before_what_is_merely_oldest() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    for counter in range(Reassembler.MOST_UNITS):
        now = 0.0 if counter < 5 else 0.9
        reassembler.add(keypair, *slices(150, 60, counter=counter)[0], now=now)
    first = slices(150, 60, counter=1000)[0]
    assert reassembler.add(keypair, *first, now=1.0) == (None, 5)
    assert len(reassembler) == 28


def test_memory_is_bounded() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    for counter in range(100):
        for each in slices(LARGEST_UNIT, 1456, counter=counter)[1:]:
            reassembler.add(keypair, *each, now=0.0)
    kept = [slice_ for partial in reassembler._partials.values() for slice_ in partial.slices]
    assert sum(len(slice_) for slice_ in kept if slice_) < 32 * LARGEST_UNIT


def test_units_wait_for_one_second() -> None:
    keypair, _ = keypairs()
    reassembler = Reassembler()
    for counter, now in enumerate((0.0, 0.25, 0.5)):
        first, second, _ = slices(150, 60, counter=counter)
        reassembler.add(keypair, *first, now=now)
        reassembler.add(keypair, *second, now=now + 0.2)  # does not prolong the wait
    assert reassembler.expire(0.99) == 0
    assert reassembler.expire(1.0) == 1
    assert (keypair.rx_units, keypair.rx_expected, keypair.rx_got) == (1, 3, 2)
    assert len(reassembler) == 2
    assert reassembler.expire(9.0) == 2
    assert len(reassembler) == 0


def test_what_waits_for_a_keypair_is_forgotten_with_it() -> None:
    one, two = keypairs()
    reassembler = Reassembler()
    for keypair in (one, two):
        for counter in range(3):
            reassembler.add(keypair, *slices(150, 60, counter=counter)[0], now=0.0)
    reassembler.forget(one)
    assert len(reassembler) == 3
    assert one.rx_units == 0
    _, second, third = slices(150, 60)
    assert reassembler.add(two, *second, now=0.0)[0] is None
    assert reassembler.add(two, *third, now=0.0)[0] == bytes(150)


def test_the_header_is_what_the_wire_format_says() -> None:
    assert HEADER.format == "!BBHIQ"
    assert struct.calcsize("!BBHIQ") == HEADER_SIZE == 16
