"""Files that others can read."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from tunmesh.cli import pcapng

packets = st.tuples(
    st.integers(0, 1), st.integers(0, 2**62), st.binary(max_size=70), st.text(max_size=20)
)


@given(st.lists(packets, max_size=5))
def test_scapy_reads_what_was_written(written: list[tuple[int, int, bytes, str]]) -> None:
    data = pcapng.section("tunmesh", [("inside", "of this host"), ("outside", "")], 100)
    for place, moment, packet, comment in written:
        length = len(packet) + 3
        data += pcapng.packet(place, moment, packet, length, comment, incoming=bool(place))
    data += pcapng.statistics(0, 0, 10, 2)
    reader = RawPcapNgReader(io.BytesIO(data))
    read = list(reader)
    assert [packet for packet, _ in read] == [packet for _, _, packet, _ in written]
    for (place, moment, packet, comment), (_, found) in zip(written, read, strict=True):
        assert found.linktype == pcapng.LINKTYPE_RAW
        assert found.ifname == (b"inside", b"outside")[place]
        assert found.tshigh << 32 | found.tslow == moment
        assert found.tsresol == 1_000_000_000
        assert found.wirelen == len(packet) + 3
        assert found.direction == (2, 1)[place]
        assert b"".join(found.comments or [b""]) == comment.encode()


def test_every_block_is_as_long_as_it_says() -> None:
    data = pcapng.section("tunmesh", [("i", "d")], 20)
    data += pcapng.packet(0, 1, b"abc", 3, "x", incoming=True) + pcapng.statistics(0, 1, 1, 0)
    kinds = []
    while data:
        kind, length = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
        assert length % 4 == 0
        assert data[length - 4 : length] == data[4:8]
        kinds.append(kind)
        data = data[length:]
    assert kinds == [0x0A0D0D0A, 1, 6, 5]
