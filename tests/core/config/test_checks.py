from __future__ import annotations

from pathlib import Path

import pytest

from tunmesh.config import read_config
from tunmesh.config.checks import hints
from tunmesh.config.toml import toml_value

NETWORKS = ["10.42.0.0/16", "fd42::/48"]


def check(**keys: object) -> list[str]:
    """Problems of a configuration; ``node__addresses`` stands for ``node.addresses``."""
    sets = [f"{key.replace('__', '.')}={toml_value(value)}" for key, value in keys.items()]
    problems = read_config(None, sets=sets, environ={"TUNMESH_CONFIG": "/dev/null"})[1]
    return [
        str(problem).removeprefix("--set: ").removeprefix("/dev/null: ") for problem in problems
    ]


@pytest.mark.parametrize(
    "address",
    [
        "10.42.1.1/24",
        "10.42.1.1/32",
        "10.42.1.0/31",
        "10.42.1.0/16",
        "fd42::1/64",
        "fd42::/127",
        "fd42::1:ffff:ffff:ffff:ffff/64",
        "fe80::1/64",
        "fe80::1/128",
    ],
)
def test_addresses_inside_the_networks_and_link_local_ones(address: str) -> None:
    assert check(mesh__networks=NETWORKS, node__addresses=[address]) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.43.1.1/24", "10.43.1.1 is outside mesh.networks"),
        ("10.42.1.1", '"10.42.1.1" lacks the length of its prefix: write "10.42.1.1/N"'),
        (
            "x",
            '"x" is not an address: write one as "10.42.1.1/24" or "fd42:0:0:1::1/64"',
        ),
        ("10.42.1.0/24", "10.42.1.0/24 is the prefix itself, not an address in it"),
        ("10.42.1.255/24", "10.42.1.255/24 is the broadcast address of its prefix"),
        ("fd42::/64", "fd42::/64 is the prefix itself, not an address in it"),
        (
            "10.42.1.1/8",
            "the local subnet 10.0.0.0/8 reaches beyond mesh.networks 10.42.0.0/16",
        ),
        ("auto/", '"auto/" is neither "auto" nor "auto/N" with N from 1 to 32'),
        ("auto/33", '"auto/33" is neither "auto" nor "auto/N" with N from 1 to 32'),
        ("auto/0", '"auto/0" is neither "auto" nor "auto/N" with N from 1 to 32'),
        ("auto/x", '"auto/x" is neither "auto" nor "auto/N" with N from 1 to 32'),
        (
            "auto/8",
            'the local subnet of "auto/8" reaches beyond mesh.networks 10.42.0.0/16',
        ),
    ],
)
def test_other_addresses_are_refused(address: str, message: str) -> None:
    assert check(mesh__networks=NETWORKS, node__addresses=[address]) == [
        f"node.addresses[0]: {message}"
    ]


@pytest.mark.parametrize("address", ["auto", "auto/16", "auto/24", "auto/32"])
def test_addresses_that_the_node_finds_itself(address: str) -> None:
    assert check(mesh__networks=NETWORKS, node__addresses=[address, "10.42.1.1/24"]) == []


def test_auto_with_a_length_is_for_ipv4() -> None:
    assert check(mesh__networks=["fd42::/48"], node__addresses=["auto"]) == []
    assert check(mesh__networks=["fd42::/48"], node__addresses=["auto/24"]) == [
        'node.addresses[0]: "auto/24" is for IPv4, of which mesh.networks has none: write "auto"'
    ]


def test_auto_is_named_once() -> None:
    assert check(mesh__networks=NETWORKS, node__addresses=["auto", "auto/24"]) == [
        'node.addresses[1]: "auto" is named more than once: it covers every network'
    ]


def test_an_address_is_named_once() -> None:
    assert check(mesh__networks=NETWORKS, node__addresses=["10.42.1.1/24", "10.42.1.1/16"]) == [
        "node.addresses[1]: 10.42.1.1 is named more than once"
    ]


def test_addresses_are_not_held_against_networks_that_are_wrong() -> None:
    assert len(check(mesh__networks=["10.42.0.1/16"], node__addresses=["10.42.1.1/24"])) == 1


@pytest.mark.parametrize("network", ["0.0.0.0/0", "224.0.0.0/4", "127.0.0.0/8", "fe80::/10"])
def test_some_networks_cannot_be_overlays(network: str) -> None:
    (problem,) = check(mesh__networks=[network])
    assert problem.startswith("mesh.networks[0]: ")


def test_networks_do_not_overlap() -> None:
    assert check(mesh__networks=["10.0.0.0/8", "fd42::/48", "10.42.0.0/16"]) == [
        'mesh.networks[2]: "10.42.0.0/16" overlaps mesh.networks[0] "10.0.0.0/8"'
    ]


def test_a_subnet_is_named_once() -> None:
    subnets = ["10.0.0.0/24", {"prefix": "10.0.0.0/24", "metric": 1}]
    assert check(node__subnets=subnets) == [
        'node.subnets[1]: "10.0.0.0/24" is named more than once'
    ]


@pytest.mark.parametrize("url", ["udp://1.2.3.4:1", "https://x", "udp://[::1]:9", "unix:///run/x"])
def test_urls_have_a_scheme_and_a_host_or_path(url: str) -> None:
    assert check(node__advertise=[url], bootstrap__a__urls=[url]) == []


@pytest.mark.parametrize(
    "url", ["", "x", "1.2.3.4:1", "udp://", "udp:///", "udp://:1", "udp://a:99999"]
)
def test_other_urls_are_refused(url: str) -> None:
    message = f'"{url}" is no URL such as "udp://198.51.100.1:4567"'
    assert check(node__advertise=[url], bootstrap__a__urls=[url]) == [
        f"node.advertise[0]: {message}",
        f"bootstrap.a.urls[0]: {message}",
    ]


def test_there_is_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[mesh]\nsecret = 'x'\nsecret_file = 'y'\n")
    (problem,) = read_config(str(path), environ={})[1]
    assert str(problem).endswith("mesh.secret: is set, and mesh.secret_file too: keep one of them")


def test_timing_that_contradicts_itself() -> None:
    assert check(timing__keepalive=0) == ["timing.keepalive: must be more than 0"]
    assert check(timing__rekey_after="2m..3m") == [
        "timing.reject_after: must be more than timing.rekey_after"
    ]
    assert check(timing__stale_mesh="30s") == [
        "timing.stale_mesh: must be more than timing.reregister_mesh"
    ]


@pytest.mark.parametrize("key", ["node__advertise", "bootstrap__s__urls"])
def test_a_mesh_is_not_reached_through_itself(key: str) -> None:
    urls = ["udp://10.42.0.9:4567", "udp://[fd42::9]:4567", "udp://10.43.0.9:4567", "udp://a:1"]
    found = check(mesh__networks=NETWORKS, **{key: urls})
    name = key.replace("__", ".")
    assert found == [
        f'{name}[0]: "{urls[0]}" is inside mesh.networks: a mesh is not reached through itself',
        f'{name}[1]: "{urls[1]}" is inside mesh.networks: a mesh is not reached through itself',
    ]


def test_silence_must_not_be_the_rule() -> None:
    assert check(timing__keepalive="30s") == [
        "timing.stale_local: must be more than timing.keepalive"
    ]


def test_what_is_hardly_meant() -> None:
    sets = ['node.advertise=["udp://a:1"]', 'bootstrap.s.urls=["udp://a:1", "udp://b:1"]']
    config, _ = read_config(None, sets=sets, environ={"TUNMESH_CONFIG": "/dev/null"})
    assert hints(config) == ['bootstrap.s.urls: "udp://a:1" is this node itself, by node.advertise']
