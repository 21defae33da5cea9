"""What a mesh survives: crashes, stopped processes, other addresses, loss, wrong clocks."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import PingStream, first_replies
from tests.system.lab import eventually
from tests.system.node import PATIENCE, Mesh


def formed(meshes: MeshFactory, names: str, **options: Any) -> Mesh:
    """A mesh whose first node knows nobody, and whose others know the first."""
    mesh = meshes(*names, **options)
    for name in names:
        mesh.add(name, [] if name == names[0] else [mesh.lab[names[0]].url()])
    mesh.expect_reachable(3, mesh.start())
    return mesh


def keep_identity(mesh: Mesh, name: str) -> None:
    """Restart a node with an identity that lasts."""
    node = mesh[name]
    state = node.directory / "state"
    state.mkdir(mode=0o700)
    node.stop()
    options = dict(node.options)
    options["node"] = {**options["node"], "state_dir": str(state)}
    node.configure(options)
    mesh.expect_reachable(6, node.start())


@pytest.mark.parametrize(("identity", "absence"), [("fresh", 0), ("kept", 0), ("fresh", 5)])
def test_a_killed_node_is_back_within_3_s_of_its_start(
    meshes: MeshFactory, identity: str, absence: float
) -> None:
    mesh = formed(meshes, "abc")
    if identity == "kept":
        keep_identity(mesh, "b")
    mesh["b"].kill()
    time.sleep(absence)
    mesh.expect_reachable(3, mesh["b"].start())
    mesh.expect_peers()


@pytest.mark.parametrize("identity", ["fresh", "kept"])
def test_a_killed_seed_is_back_within_6_s_of_its_start(meshes: MeshFactory, identity: str) -> None:
    mesh = formed(meshes, "abc")
    if identity == "kept":
        keep_identity(mesh, "a")
    mesh["a"].kill()
    mesh.expect_reachable(6, mesh["a"].start())
    mesh.expect_peers()


def test_a_stopped_process_is_back_within_2_s_of_its_continuation(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abc")
    b = mesh["b"]
    with PingStream(mesh["a"].host, b.overlay4) as stream:
        b.kill(signal.SIGSTOP)
        time.sleep(20)
        continued = b.kill(signal.SIGCONT)
        mesh.expect_reachable(2, continued)
        time.sleep(1)
    assert stream.recovery(continued) <= 2 * PATIENCE
    mesh.expect_peers()


@pytest.mark.parametrize("moving", ["a", "b"])
@pytest.mark.parametrize("family", [4, 6])
def test_another_underlay_address_costs_less_than_2_s(
    meshes: MeshFactory, moving: str, family: int
) -> None:
    mesh = formed(meshes, "abc", families=(family,))
    node = mesh[moving]
    others = [other for other in mesh if other is not node]
    with (
        PingStream(others[0].host, node.overlay4) as towards,
        PingStream(node.host, others[1].overlay6) as away,
    ):
        time.sleep(0.5)
        new = {4: "10.99.0.77", 6: "fd99::77"}[family]
        node.host.set_addresses(**{f"address{family}": new})
        moved = time.monotonic()
        mesh.expect_reachable(2, moved)
        time.sleep(3)
    assert towards.recovery(moved) <= 2 * PATIENCE
    assert away.recovery(moved) <= 2 * PATIENCE
    for other in others:
        eventually(
            lambda other=other: any(  # type: ignore[misc]
                link["active"] and link["endpoint"] == node.host.url()
                for link in other.peers()[node.name]["links"]
            ),
            5,
            f"{other.name} sends to the new address",
        )


def test_a_network_that_was_down_is_used_again(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abc")
    mesh["b"].host.ip("link", "set", "eth0", "down")
    time.sleep(5)  # longer than a path takes to be given up
    mesh["b"].host.ip("link", "set", "eth0", "up")
    up = time.monotonic()
    mesh["b"].host.set_addresses()  # IPv6 addresses go with the link
    mesh.expect_reachable(6, up)


def test_a_mesh_forms_under_loss(meshes: MeshFactory) -> None:
    """Twenty joins at 20 % loss each way; the rate of one in a hundred allows one late of them."""
    mesh = meshes(*"abcde", segmented=True)
    seed = mesh.add("a")
    seed.start()
    eventually(seed.ready, 5, "the seed is up")
    mesh.lab.loss(20)
    took: list[float] = []
    for turn in range(5):
        nodes = [
            mesh.add(f"{host}{turn}", [seed.host.url()], host=host, number=16 * (turn + 1) + place)
            for place, host in enumerate("bcde")
        ]
        began = [node.start() for node in nodes]
        replies = first_replies([(node.host, seed.overlay4) for node in nodes], 15)
        took += [replies.get(i, float("inf")) - start for i, start in enumerate(began)]
        for node in nodes:
            node.kill()
    took.sort()
    assert sum(seconds > 5 * PATIENCE for seconds in took) <= 1, took
    assert took[-1] < 15, took


def test_a_mesh_holds_under_loss(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abcd", segmented=True)
    mesh.lab.loss(20)
    streams = [
        PingStream(source.host, target.overlay4, 0.05)
        for source, target in itertools.permutations(mesh, 2)
    ]
    for stream in streams:
        stream.__enter__()
    time.sleep(15)
    for stream in streams:
        stream.__exit__(None, None, None)
    gaps = sorted(stream.longest_gap() for stream in streams)
    assert gaps[-1] < 3, gaps
    # A ping and its answer both survive with 0.8 * 0.8.
    lost = sum(stream.lost() for stream in streams) / sum(len(s.echoes) for s in streams)
    assert lost < 0.42
    mesh.lab.loss(0)
    mesh.expect_peers(10)


DAY = 86_400


@pytest.fixture
def libfaketime(program: Callable[[str], str]) -> Iterator[str]:
    """The library behind the program ``faketime``; it leaves files of killed processes.

    To be asked for before the mesh, so that the nodes have ended when the files are removed.
    """
    program("faketime")
    yield str(next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")))
    for file in Path("/dev/shm").glob("*faketime_s*_*"):
        if not Path("/proc", file.name.rpartition("_")[2]).exists():
            with contextlib.suppress(PermissionError):  # somebody else's
                file.unlink()


def clock(libfaketime: str, offset: int) -> dict[str, str]:
    """The environment of a process whose wall clock, and nothing else, is off by some seconds."""
    return {
        "LD_PRELOAD": libfaketime,
        "FAKETIME": f"{offset:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # what it mends with 1 is not broken here, then is
        "NO_FAKE_STAT": "1",  # else every compiled module looks older than its source
    }


def test_wall_clocks_400_days_off_change_nothing(libfaketime: str, meshes: MeshFactory) -> None:
    mesh = meshes(*"abcd")
    for name, days in (("a", 0), ("b", -400), ("c", 400), ("d", 0)):
        env = clock(libfaketime, days * DAY) if days else None
        mesh.add(name, [mesh.lab["a"].url()], env=env)
    mesh.expect_reachable(3, mesh.start())
    with (
        PingStream(mesh["b"].host, mesh["c"].overlay4) as b_to_c,
        PingStream(mesh["d"].host, mesh["b"].overlay6) as d_to_b,
    ):
        time.sleep(8)
    assert b_to_c.lost() == d_to_b.lost() == 0
    mesh.expect_peers()


def test_a_wall_clock_that_jumps_changes_nothing(
    libfaketime: str, meshes: MeshFactory, tmp_path: Path
) -> None:
    mesh = meshes(*"abc")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    jumping = clock(libfaketime, 0) | {
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
    }
    del jumping["FAKETIME"]  # it would take precedence
    for name in "abc":
        env = jumping if name == "b" else None
        mesh.add(name, [mesh.lab["a"].url()], env=env)
    mesh.expect_reachable(3, mesh.start())
    with PingStream(mesh["b"].host, mesh["c"].overlay4) as stream:
        for days in (-400, 400, 0):
            offset.write_text(f"{days * DAY:+d}\n")
            time.sleep(4)
            mesh.expect_reachable(1, time.monotonic())
    assert stream.lost() == 0
    mesh.expect_peers()


def test_a_kept_identity_comes_back_with_an_older_clock(
    libfaketime: str, meshes: MeshFactory
) -> None:
    mesh = meshes(*"abc")
    for name in "abc":
        mesh.add(name, [mesh.lab["a"].url()])
    mesh["b"].env |= clock(libfaketime, 400 * DAY)
    mesh.expect_reachable(3, mesh.start())
    keep_identity(mesh, "b")
    mesh["b"].kill()
    mesh["b"].env |= clock(libfaketime, -400 * DAY)
    mesh.expect_reachable(3, mesh["b"].start())
    mesh.expect_peers()


def test_an_address_in_use_is_not_taken_away(meshes: MeshFactory) -> None:
    mesh = formed(meshes, "abc")
    time.sleep(2.5)  # claims of about the same age would be judged otherwise
    usurper = mesh.add("d", [mesh.lab["c"].url()], number=mesh["b"].host.number)
    with PingStream(mesh["a"].host, mesh["b"].overlay4) as stream:
        usurper.start()
        eventually(usurper.ready, 5, "the usurper is up")
        time.sleep(5)
    assert stream.lost() == 0
    owners = {
        route["prefix"]: route["peers"]
        for route in mesh["a"].status()["routes"]
        if route["kind"] == "address"
    }
    assert owners[f"{mesh['b'].overlay4}/32"] == ["b"]
    assert owners[f"{mesh['b'].overlay6}/128"] == ["b"]
