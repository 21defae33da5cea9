"""What outsiders, and members that cheat, can do to a mesh: nothing."""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import MeshFactory
from tests.system.icmp import PingStream
from tests.system.node import TUNMESH, Mesh, Node
from tunmesh.counters import Drops
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.session.handshake import Handshakes
from tunmesh.session.timing import Timing

PORT = 4567
INIT, RESP, COOKIE, DATA, KEYQ, KEYR = 1, 2, 3, 4, 5, 6
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75


@pytest.fixture
def mesh(meshes: MeshFactory) -> Mesh:
    """Two nodes, a and b, and a host without one: x."""
    mesh = meshes("a", "b", "x", families=(4,))
    for name in "ab":
        state = mesh.directory / f"{name}-state"
        state.mkdir(mode=0o700)
        node = {"node": {"state_dir": str(state)}}
        mesh.add(name, [mesh.lab["a"].url()], options=node)
    mesh.expect_reachable(3, mesh.start())
    return mesh


@pytest.fixture
def stranger(mesh: Mesh) -> Iterator[socket.socket]:
    """A socket on a host that is no node."""
    with mesh.lab["x"].socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("10.99.0.3", 0))
        yield stranger


def facts(node: Node) -> dict[str, Any]:
    """All that a status tells, but for counters and times."""
    status = node.status()
    peers = {
        peer["id"]: (
            peer["name"],
            peer["addresses"],
            peer["state"],
            sorted((link["endpoint"], link["active"]) for link in peer["links"]),
        )
        for peer in status["peers"]
    }
    kept = {key: status[key] for key in ("mesh", "routes", "groups")}
    device = {key: status["device"][key] for key in ("name", "backend", "mtu", "offloads")}
    return {**kept, "device": device, "peers": peers, "endpoints": status["node"]["endpoints"]}


def flood(stranger: socket.socket, target: Node, datagrams: Iterable[bytes]) -> None:
    """Send datagrams, no faster than a socket's buffer is emptied."""
    for number, datagram in enumerate(datagrams):
        stranger.sendto(datagram, (target.host.address4, PORT))
        if number % 20 == 0:
            time.sleep(0.002)


def answers(stranger: socket.socket, patience: float) -> list[bytes]:
    """Every datagram that comes until none came for a while."""
    received = []
    stranger.settimeout(patience)
    try:
        while True:
            received.append(stranger.recv(65536))
    except TimeoutError:
        return received


def random_datagrams(count: int) -> Iterator[bytes]:
    """Random bytes, half of which begin like messages of ours."""
    rng = random.Random(20)
    for number in range(count):
        data = bytearray(rng.randbytes(rng.choice((rng.randint(1, 300), rng.randint(1, 1472)))))
        if number % 2:
            head = bytes((rng.randint(1, 7), 1, rng.randint(0, 2), 0))
            data[: len(head)] = head
        yield bytes(data)


def foreign_datagrams(count: int, static: bytes) -> Iterator[bytes]:
    """Well-formed messages of somebody who has another secret, but knows the static key."""
    for _ in range(count // 50):  # nobody may have many questions open
        foreigner = Handshakes(
            NodeKey.generate(),
            Keyring([b"another-secret-0123456789abcdefghijkl"], "test"),
            boot_id=bytes(8),
            suites=(1, 2),
            hardware_aes=True,
            max_datagram=1472,
            wall_ns=time.time_ns,
            timing=Timing(),
            drops=Drops(),
        )
        for _ in range(25):
            yield foreigner.initiate(static, 0.0).datagram
            yield foreigner.query(0.0)[1]


def public_key(node: Node) -> bytes:
    """The static key of a node, which no outsider knows."""
    return NodeKey.load_or_create(Path(node.options["node"]["state_dir"])).x25519_public


@pytest.mark.parametrize("kind", ["random", "foreign"])
def test_strangers_get_no_answer_and_change_nothing(
    mesh: Mesh, stranger: socket.socket, kind: str
) -> None:
    a = mesh["a"]
    count = 10_000
    before, dropped, lines = facts(a), sum(a.drops().values()), a.log_text().count("\n")
    datagrams = (
        random_datagrams(count) if kind == "random" else foreign_datagrams(count, public_key(a))
    )
    with PingStream(mesh["b"].host, a.overlay4) as stream:
        flood(stranger, a, datagrams)
        assert answers(stranger, 1.0) == []
    assert stream.lost() == 0
    assert facts(a) == before
    assert sum(a.drops().values()) - dropped >= 0.99 * count
    assert a.log_text().count("\n") - lines <= 50


def udp_payloads(frames: Iterable[bytes], host: str) -> list[bytes]:
    """The UDP payloads that reached the port of the nodes on a host, without repetition."""
    wanted = socket.inet_aton(host)
    payloads: dict[bytes, None] = {}
    for frame in frames:
        ip = frame[14:]
        if frame[12:14] != b"\x08\x00" or ip[9] != socket.IPPROTO_UDP or ip[16:20] != wanted:
            continue
        header = (ip[0] & 15) * 4
        port, length = struct.unpack_from("!HH", ip, header + 2)
        if port == PORT:
            payloads[ip[header + 8 : header + length]] = None
    return list(payloads)


def test_genuine_messages_replayed_by_a_stranger(mesh: Mesh, stranger: socket.socket) -> None:
    a, b = mesh["a"], mesh["b"]
    with mesh.lab.capture("a") as frames:
        b.kill()
        mesh.expect_reachable(3, b.start())
        b.host.run("ping", "-n", "-c", 20, "-i", 0.01, a.overlay4)
        time.sleep(0.2)
    payloads = udp_payloads(frames, a.host.address4)
    kinds = {payload[0] for payload in payloads}
    assert {INIT, KEYQ, DATA} <= kinds, kinds
    time.sleep(1)
    before = facts(a)
    with PingStream(b.host, a.overlay4) as stream:
        assert_bounded(stranger, a, payloads, {KEYR, COOKIE, RESP})
        time.sleep(11)  # now a handshake that is repeated is an old one
        assert_bounded(stranger, a, payloads, {KEYR, COOKIE})
    assert stream.lost() == 0
    assert facts(a) == before


def assert_bounded(
    stranger: socket.socket, target: Node, payloads: list[bytes], allowed: set[int]
) -> None:
    """Send each payload thrice; see at most one answer to each, not larger, of an allowed kind."""
    for payload in payloads:
        replies: list[bytes] = []
        for _ in range(3):
            stranger.sendto(payload, (target.host.address4, PORT))
            one = answers(stranger, 0.03 if payload[0] != DATA else 0.002)
            assert len(one) <= 1, (payload[0], [reply[0] for reply in one])
            replies += one
        for reply in replies:
            assert payload[0] in {INIT, KEYQ}, f"kind {payload[0]} was answered"
            assert reply[0] in allowed, f"kind {payload[0]} was answered with {reply[0]}"
            assert len(reply) <= len(payload)
    assert answers(stranger, 0.5) == []


def repeatable(frame: bytes) -> bytes:
    """A captured frame without its UDP checksum, which the sender left to its device to finish."""
    offset = 14 + (frame[14] & 15) * 4 + 6
    return frame[:offset] + bytes(2) + frame[offset + 2 :]


def test_genuine_frames_repeated_by_the_network(mesh: Mesh) -> None:
    a, b = mesh["a"], mesh["b"]
    with mesh.lab.capture("a") as frames:
        b.kill()
        mesh.expect_reachable(3, b.start())
        b.host.run("ping", "-n", "-c", 20, "-i", 0.01, a.overlay4)
        time.sleep(0.2)
    towards_a = [
        f
        for f in frames
        if f[12:14] == b"\x08\x00" and f[30:34] == socket.inet_aton(a.host.address4)
    ]
    time.sleep(1)
    before, replays = facts(a), a.drops()["replay"]
    received = a.peers()["b"]["rx_packets"]
    with mesh.lab.hub.socket(socket.AF_PACKET, socket.SOCK_RAW) as injector:
        injector.bind((a.host.port, 0))
        for _ in range(2):
            for frame in towards_a:
                injector.send(repeatable(frame))
    time.sleep(0.5)
    assert facts(a) == before
    assert a.drops()["replay"] - replays >= 2 * 20
    assert a.peers()["b"]["rx_packets"] == received
    mesh.expect_reachable(1, time.monotonic())


@pytest.mark.parametrize("cheating", [False, True])
def test_a_borrowed_source_does_not_get_through(mesh: Mesh, cheating: bool) -> None:
    spoofing = (sys.executable, str(Path(__file__).with_name("spoofing_node.py")))
    program = spoofing if cheating else TUNMESH
    c = mesh.add("c", [mesh.lab["a"].url()], program=program)
    c.env["SPOOFING_NODE_ADDRESSES"] = " ".join(c.overlay)
    mesh.expect_reachable(3, c.start())
    a, b = mesh["a"], mesh["b"]
    before_a, before_c = a.drops(), c.drops()
    for victim, target in zip(b.overlay, a.overlay, strict=True):
        assert datagrams_with_source(c, victim, a, target) == 0
    spoofed = a.drops()["spoofed_source"] - before_a["spoofed_source"]
    unknown = c.drops()["unknown_source"] - before_c["unknown_source"]
    assert (spoofed, unknown) == ((20, 0) if cheating else (0, 20))
    # With its own source the same gets through.
    for own, target in zip(c.overlay, a.overlay, strict=True):
        assert datagrams_with_source(c, own, a, target) == 10


def datagrams_with_source(sender: Node, source: str, receiver: Node, target: str) -> int:
    """How many of ten datagrams with that inner source arrive."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with (
        receiver.host.socket(family, socket.SOCK_DGRAM) as sink,
        sender.host.socket(family, socket.SOCK_DGRAM) as outlet,
    ):
        sink.bind((target, 9000))
        if family == socket.AF_INET:
            outlet.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        else:
            outlet.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        outlet.bind((source, 9000))
        for _ in range(10):
            outlet.sendto(b"borrowed", (target, 9000))
        return len(answers(sink, 0.3))
