"""What a receiver tells of numbered datagrams, and the sockets of the tools."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import BadPacket
from tunmesh_multicast_igmp.tools.sockets import (
    Membership,
    MulticastError,
    index_of,
    parse_group,
    parse_sources,
    sender,
)
from tunmesh_multicast_igmp.tools.stream import (
    HEADER_SIZE,
    Receiver,
    decode_datagram_untrusted,
    encode_datagram,
)


@given(*[st.integers(0, 2**64 - 1)] * 3, st.integers(0, 2000))
def test_datagrams_are_read_as_written(stream: int, number: int, sent: int, size: int) -> None:
    datagram = encode_datagram(stream, number, sent, size)
    assert len(datagram) == max(size, HEADER_SIZE)
    assert decode_datagram_untrusted(datagram) == (stream, number, sent)


@given(st.binary(max_size=60))
def test_others_are_told_apart(datagram: bytes) -> None:
    receiver = Receiver()
    with pytest.raises(BadPacket):
        decode_datagram_untrusted(datagram)
    assert receiver.receive(datagram, "10.0.0.1", 0) is None
    assert (receiver.foreign, receiver.received, receiver.summaries()) == (1, 0, [])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_loss_and_duplicates_are_counted(numbers: list[int]) -> None:
    receiver = Receiver()
    for number in numbers:
        receiver.receive(encode_datagram(7, number, 0, 0), "10.0.0.1", 2_000_000)
    (summary,) = receiver.summaries()
    distinct = set(numbers)
    assert summary == {
        "source": "10.0.0.1",
        "received": len(distinct),
        "lost": max(distinct) - min(distinct) + 1 - len(distinct),
        "duplicates": len(numbers) - len(distinct),
        "latency_ms": 2.0,
        "longest_ms": 2.0,
    }


def test_memory_of_numbers_is_bounded() -> None:
    receiver = Receiver()
    for number in range(20_000):
        receiver.receive(encode_datagram(7, number, 0, 0), "10.0.0.1", 0)
    stream = receiver.receive(encode_datagram(7, 3, 0, 0), "10.0.0.1", 0)
    assert stream is not None
    assert (stream.received, stream.duplicates, stream.lost) == (20_000, 1, 0)
    assert len(stream._recent) <= 8193


def test_senders_are_told_apart() -> None:
    receiver = Receiver()
    for stream in (1, 2):
        receiver.receive(encode_datagram(stream, 0, 0, 0), f"10.0.0.{stream}", 0)
    assert [summary["source"] for summary in receiver.summaries()] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.1", "fd00::1"])
def test_what_is_no_group(text: str) -> None:
    with pytest.raises(MulticastError):
        parse_group(text)


@pytest.mark.parametrize("text", ["nonsense", "fd00::1"])
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(MulticastError):
        parse_sources(ip_address("239.1.2.3"), [text])


def test_an_interface_that_is_not_there() -> None:
    assert index_of("") == 0
    with pytest.raises(MulticastError, match="there is no interface nonesuch"):
        index_of("nonesuch")


@pytest.mark.parametrize("specific", [False, True])
def test_a_group_on_the_loopback(specific: bool) -> None:
    own, group = ip_address("127.0.0.1"), ip_address("239.77.1.2")
    membership = Membership(group, 0, "lo", [own] if specific else [])
    with membership.socket as listener, sender(group, "lo", 0) as talker:
        talker.bind((str(own), 0))
        talker.sendto(b"hello", (str(group), listener.getsockname()[1]))
        listener.settimeout(5)
        assert listener.recv(100) == b"hello"
        assert not membership.renew()
