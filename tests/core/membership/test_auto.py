"""Which addresses a node tries, and when it goes on to another."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces.tun import Network
from tunmesh.membership.auto import AutoAddresses, candidates, local_length
from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.timing import DirectoryTiming

ME, SMALLER, LARGER = "5" * 32, "1" * 32, "9" * 32
NETWORK = ip_network("10.7.7.0/24")


def claims() -> Claims:
    return Claims(ME, DirectoryTiming(), lambda _: None)


def claim(known: Claims, node_id: str, address: str, now: float, held: float = 0.0) -> None:
    known.update(node_id, Claim((ip_address(address).packed,), (held,), now), now)


@pytest.mark.parametrize(
    ("network", "length", "local"),
    [
        ("10.42.0.0/16", None, 16),
        ("10.42.0.0/16", 24, 24),
        ("10.42.0.0/28", 24, 28),
        ("10.42.0.0/16", 32, 32),
        ("fd42::/48", None, 64),
        ("fd42::/48", 24, 64),
        ("fd42::/64", None, 64),
        ("fd42::/112", None, 112),
    ],
)
def test_the_local_prefix(network: str, length: int | None, local: int) -> None:
    assert local_length(ip_network(network), length) == local
    first = next(candidates(ME, ip_network(network), length))
    assert first.network.prefixlen == local


@pytest.mark.parametrize("length", [None, 28, 30, 31, 32])
def test_every_address_of_a_network_once_the_first_subnet_first(length: int | None) -> None:
    found = list(candidates(ME, NETWORK, length))
    addresses = [item.ip for item in found]
    assert len(set(addresses)) == len(addresses)
    if length in {None, 31, 32}:
        assert set(addresses) == set(NETWORK.hosts())
    else:
        assert found[0].network == next(NETWORK.subnets(new_prefix=length))
        assert [item.network for item in found] == sorted(item.network for item in found)
        assert all(item.ip in set(item.network.hosts()) for item in found)


def test_ipv6_takes_subnet_zero() -> None:
    for item in islice(candidates(ME, ip_network("fd42:1:2::/48")), 100):
        assert item.network == ip_network("fd42:1:2::/64")
        assert item.ip != item.network.network_address


def test_what_a_node_tries_first_follows_from_its_key() -> None:
    nodes = [f"{number:032x}" for number in range(200)]
    first = [next(candidates(node, ip_network("10.0.0.0/8"))) for node in nodes]
    assert first == [next(candidates(node, ip_network("10.0.0.0/8"))) for node in nodes]
    assert len(set(first)) == len(nodes)


def prefixes() -> st.SearchStrategy[Network]:
    ipv4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32))
    ipv6 = st.tuples(st.integers(2**32, 2**128 - 1), st.integers(16, 128))
    return st.one_of(ipv4, ipv6).map(
        lambda pair: ip_network((ip_address(pair[0]), pair[1]), strict=False)
    )


@given(prefixes(), st.none() | st.integers(1, 32))
def test_candidates_are_usable_addresses_of_the_network(
    network: Network, length: int | None
) -> None:
    found = list(islice(candidates(ME, network, length), 20))
    assert found
    assert len(set(found)) == len(found)
    for item in found:
        assert item in network
        assert item.network.prefixlen == local_length(network, length)
        if item.version == 4 and item.network.prefixlen < 31:
            assert item.ip not in {item.network.network_address, item.network.broadcast_address}


def test_kept_addresses_are_tried_first_if_they_still_fit() -> None:
    fits = ip_interface("10.7.7.99/24")
    kept = [ip_interface(text) for text in ("10.8.0.1/24", "10.7.7.9/25", "fd00::1/64")]
    assert AutoAddresses(ME, [NETWORK], None, kept=[*kept, fits]).addresses == (fits,)


def test_own_other_addresses_are_left_out() -> None:
    first, second = islice(candidates(ME, NETWORK), 2)
    auto = AutoAddresses(ME, [NETWORK], None, static=[first.ip])
    assert auto.addresses == (second,)


def test_it_leaves_what_another_node_holds() -> None:
    auto = AutoAddresses(ME, [NETWORK], None)
    (mine,) = auto.addresses
    known = claims()
    claim(known, SMALLER, str(mine.ip), 0.0)
    claim(known, ME, str(mine.ip), 10.0)
    assert auto.settle(known)
    assert mine not in auto.addresses
    assert not auto.settle(known)


def test_it_goes_on_until_one_is_free() -> None:
    tiny = ip_network("10.7.7.0/29")
    others = list(candidates(ME, tiny))
    known = claims()
    for number, item in enumerate(others[:-1]):
        claim(known, f"{number:032x}", str(item.ip), 0.0)
    auto = AutoAddresses(ME, [tiny], None)
    claim(known, ME, str(others[0].ip), 10.0)
    assert auto.settle(known)
    assert auto.addresses == (others[-1],)
    claim(known, ME, str(others[-1].ip), 11.0)
    assert not auto.settle(known)


def test_a_full_network_gives_none_until_one_is_free() -> None:
    tiny = ip_network("10.7.7.0/30")
    auto = AutoAddresses(ME, [tiny, NETWORK], None)
    known = claims()
    claim(known, SMALLER, "10.7.7.1", 0.0)
    claim(known, LARGER, "10.7.7.2", 0.0)
    mine = next(item for item in auto.addresses if item in tiny)
    claim(known, ME, str(mine.ip), 9.0)
    assert auto.settle(known)
    assert tiny in auto.full
    known.drop(LARGER, 10.0)
    assert auto.settle(known)
    assert not auto.full
    assert ip_interface("10.7.7.2/30") in auto.addresses


@pytest.mark.parametrize(
    ("rival", "held", "leaves"),
    [
        (SMALLER, 100.0, True),  # it has held the address for longer
        (LARGER, 100.0, True),
        (SMALLER, 0.0, False),  # it came later
        (LARGER, 0.0, False),
        (SMALLER, 50.0, True),  # at once: the smaller id stays
        (LARGER, 50.0, False),
        (SMALLER, 47.0, True),  # so nearly at once that the other may see it otherwise
        (LARGER, 47.0, False),
    ],
)
def test_two_that_both_hold_an_address_since_they_had_not_met(
    rival: str, held: float, leaves: bool
) -> None:
    known = claims()
    address = ip_address("10.7.7.1")
    claim(known, ME, "10.7.7.1", 0.0)
    known.met(0.0)
    assert not known.leaves(address)
    claim(known, rival, "10.7.7.1", 50.0, held=held)
    assert known.owner(address) == ME
    assert known.leaves(address) is leaves


@given(st.floats(0, 20), st.floats(0, 20), st.floats(-0.9, 0.9))
def test_of_two_that_meet_one_leaves_at_least(mine: float, its: float, skew: float) -> None:
    """Each side sees the other's age a little wrong."""
    verdicts = []
    for own, other, own_since, other_since in (
        (ME, LARGER, mine, its + skew),
        (LARGER, ME, its, mine - skew),
    ):
        known = Claims(own, DirectoryTiming(), lambda _: None)
        claim(known, own, "10.7.7.1", own_since)
        known.met(0.0)
        claim(known, other, "10.7.7.1", 60.0, held=60.0 - other_since)
        verdicts.append(known.leaves(ip_address("10.7.7.1")))
    assert any(verdicts)
