"""The addresses of a node: from whom, for what, and what is kept of them."""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from tunmesh.addressing import FILE_NAME, OwnAddresses, keep_addresses, load_addresses
from tunmesh.membership.claims import Claim, Claims
from tunmesh.membership.timing import DirectoryTiming

ME, OTHER = "5" * 32, "1" * 32
NETWORKS = (ip_network("10.7.7.0/24"), ip_network("fd42::/48"))
IFADDR = (ip_interface("fe80::1/64"), ip_interface("10.7.7.1/24"))


def own(*texts: str, state_dir: Path | None = None) -> OwnAddresses:
    return OwnAddresses(ME, texts, NETWORKS, state_dir)


def test_each_address_once_whoever_says_so() -> None:
    addresses = own("10.7.7.1/24", "fd42::1/64")
    addresses.set("ifaddr", IFADDR)
    assert list(map(str, addresses.all())) == ["10.7.7.1/24", "fd42::1/64", "fe80::1/64"]


def test_the_device_is_given_what_is_not_there_already() -> None:
    addresses = own("10.7.7.1/24")
    addresses.set("ifaddr", IFADDR)
    addresses.set("other", (ip_interface("10.7.7.2/24"),))
    addresses.configure("other")
    assert list(map(str, addresses.for_device())) == ["10.7.7.1/24", "10.7.7.2/24"]


def test_it_takes_one_of_each_network_and_keeps_it(tmp_path: Path) -> None:
    taken = own("auto", state_dir=tmp_path).for_device()
    assert [item.network for item in taken] == [NETWORKS[0], ip_network("fd42::/64")]
    assert load_addresses(tmp_path) == taken
    kept = (ip_interface("10.7.7.200/24"), ip_interface("fd42::77/64"))
    keep_addresses(tmp_path, kept)
    assert own("auto", state_dir=tmp_path).all() == kept
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_it_takes_in_place_of_a_lost_one_is_kept(tmp_path: Path) -> None:
    addresses = own("auto/24", state_dir=tmp_path)
    before = addresses.all()
    claims = Claims(ME, DirectoryTiming(), lambda _: None)
    assert not addresses.settle(claims)
    packed = before[0].ip.packed
    claims.update(OTHER, Claim((packed,), (100.0,), 0.0), 0.0)
    claims.update(ME, Claim((packed,), (0.0,), 50.0), 50.0)
    assert addresses.settle(claims)
    assert addresses.all()[0] != before[0]
    assert addresses.all()[1] == before[1]
    assert load_addresses(tmp_path) == addresses.all()


def test_without_auto_there_is_nothing_to_settle() -> None:
    assert not own("10.7.7.1/24").settle(Claims(ME, DirectoryTiming(), lambda _: None))


@pytest.mark.parametrize("content", [b"nonsense", b"\xff\xfe", b"10.7.7.1/99\n"])
def test_a_spoilt_file_is_as_good_as_none(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with caplog.at_level(logging.WARNING, "tunmesh"):
        assert load_addresses(tmp_path) == ()
    assert "kept addresses ignored" in caplog.text
    assert len(own("auto", state_dir=tmp_path).all()) == 2


def test_a_directory_that_cannot_be_written_to_does_not_stop_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tunmesh"):
        assert len(own("auto", state_dir=tmp_path / "none").all()) == 2
    assert "addresses not kept" in caplog.text


def test_a_full_network_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tunmesh"):
        addresses = OwnAddresses(ME, ["10.7.7.7/32", "auto"], (ip_network("10.7.7.7/32"),), None)
    assert addresses.all() == (ip_interface("10.7.7.7/32"),)
    assert "no free address network=10.7.7.7/32" in caplog.text
    assert ip_address("10.7.7.7") in addresses.all()[0].network


def test_the_configuration_may_name_others() -> None:
    own = OwnAddresses("ab" * 16, ["10.42.0.1/24"], (ip_network("10.42.0.0/16"),), None)
    own.set_static(["10.42.0.2/24", "10.42.0.3/24"])
    assert own.all() == own.for_device() == (
        ip_interface("10.42.0.2/24"),
        ip_interface("10.42.0.3/24"),
    )  # fmt: skip
