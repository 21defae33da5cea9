from __future__ import annotations

import argparse
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.admin.status import (
    DeviceStatus,
    GroupStatus,
    LinkStatus,
    MembershipStatus,
    MeshStatus,
    NodeStatus,
    PeerStatus,
    PluginStatus,
    RefusedStatus,
    RouteStatus,
    Status,
)
from tunmesh.cli import status as commands
from tunmesh.errors import AdminError

LINK = LinkStatus(
    transport="udp",
    endpoint="udp://192.0.2.2:4567",
    state="up",
    active=True,
    rtt_ms=0.412,
    loss=0.0,
    mtu=1472,
    cipher="aes256gcm",
    handshake_age_s=31.0,
    rx_bytes=10,
    tx_bytes=20,
    reason="handshake",
    since_s=42.0,
)
PEER = PeerStatus(
    id="b" * 32,
    name="b",
    addresses=("10.42.1.2", "fd42::2"),
    subnets=(),
    state="up",
    via="direct",
    links=(msgspec.structs.replace(LINK, active=False, endpoint="udp://192.0.2.9:1"), LINK),
    rx_packets=3,
    tx_packets=4,
    rx_bytes=2048,
    tx_bytes=17,
    last_seen_s=0.3,
)
STATUS = Status(
    version="0.1.0",
    mesh=MeshStatus(name="prod", networks=("10.42.0.0/16", "fd42::/48")),
    node=NodeStatus(
        id="a" * 32,
        name="a",
        addresses=("10.42.1.1/24",),
        subnets=(),
        endpoints=("udp://192.0.2.1:4567",),
        uptime_s=3725.0,
        healthy=True,
    ),
    device=DeviceStatus(name="tun1", backend="tun_linux", mtu=1400, offloads=("csum", "tso4")),
    plugins=(PluginStatus("udp", "tunmesh-transport-udp", "0.1.0", ("transport",), "active"),),
    peers=(
        msgspec.structs.replace(PEER, name="c", state="connecting", links=(), last_seen_s=None),
        PEER,
    ),
    routes=(RouteStatus("10.42.1.2/32", "address", ("b",), "core"),),
    groups=(),
    drops={"no_route": 2, "replay": 0},
)


# fmt: off
OVERVIEW = f"""\
tunmesh 0.1.0
node       a  {'a' * 32}  up 1 h 2 min  healthy
mesh       prod  10.42.0.0/16  fd42::/48  trust: secret
device     tun1  tun_linux  mtu 1400 bytes
addresses  10.42.1.1/24
subnets    -
endpoints  udp://192.0.2.1:4567
plugins    udp (active)
drops      no_route 2

PEER  STATE       VIA     ADDRESSES          LINK                  REASON               RTT      MTU   RECEIVED  SENT  SEEN
b     up          direct  10.42.1.2,fd42::2  udp://192.0.2.2:4567  handshake, 42 s ago  0.41 ms  1472  2.0 KiB   17 B  0.3 s ago
c     connecting  direct  10.42.1.2,fd42::2  -                     -                    -        -     2.0 KiB   17 B  -
"""  # noqa: E501
# fmt: on


class FakeNode:
    """Answers every request at `path` with one document, and keeps the requests."""

    def __init__(self, path: Path, result: Any) -> None:
        self.requests: list[Any] = []
        self._answer = json.dumps({"ok": True, "result": result}).encode() + b"\n"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed below
                return
            with connection:
                self.requests.append(json.loads(connection.recv(65536)))
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    document = msgspec.to_builtins(STATUS)
    document["news"] = "of a later version"
    fake = FakeNode(tmp_path / "node.sock", document)
    yield fake
    fake.close()


def arguments(path: Path | None, *, as_json: bool = False, config: Path | None = None) -> Any:
    return argparse.Namespace(
        socket=path and str(path), config=config and str(config), json=as_json
    )


def test_status_as_a_table(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.status_command(arguments(tmp_path / "node.sock")) == 0
    assert capsys.readouterr().out == OVERVIEW


def test_peers_and_routes(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.peers_command(arguments(tmp_path / "node.sock")) == 0
    assert capsys.readouterr().out.startswith("PEER  STATE")
    assert commands.routes_command(arguments(tmp_path / "node.sock")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "PREFIX        KIND     PEERS  METRIC  SOURCE",
        "10.42.1.2/32  address  b      -       core",
    ]


def test_json_is_the_nodes_document_unchanged(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.sock"
    assert commands.status_command(arguments(path, as_json=True)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["news"] == "of a later version"
    assert next(iter(document)) == "schema"
    assert commands.peers_command(arguments(path, as_json=True)) == 0
    assert json.loads(capsys.readouterr().out) == document["peers"]
    assert commands.routes_command(arguments(path, as_json=True)) == 0
    assert json.loads(capsys.readouterr().out) == document["routes"]


def test_stop(node: FakeNode, tmp_path: Path) -> None:
    assert commands.stop_command(arguments(tmp_path / "node.sock")) == 0
    assert node.requests == [{"command": "stop"}]


def test_an_answer_of_another_version_is_one_line(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path / "s", {"schema": 2})
    try:
        with pytest.raises(AdminError, match="is of another version"):
            commands.status_command(arguments(tmp_path / "s"))
    finally:
        fake.close()


def test_what_others_chose_cannot_break_the_table() -> None:
    hostile = msgspec.structs.replace(PEER, name="evil\n\x1b[2J\u202e", via="x" * 9999)
    lines = commands.peer_table([hostile])
    assert len(lines) == 2
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert len(lines[1]) < 500


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[admin]\nsocket = "/x/y.sock"\n', "/x/y.sock"),
        ('[plugins.tun_linux]\ndevice = "tun7"\n', "/run/tunmesh/tun7.sock"),
        (
            '[admin]\nsocket = "/x/<device>.sock"\n[plugins.tun_linux]\ndevice = "tun7"\n',
            "/x/tun7.sock",
        ),
    ],
)
def test_the_configuration_tells_the_socket(tmp_path: Path, text: str, found: str) -> None:
    config = tmp_path / "tunmesh.toml"
    config.write_text(text)
    assert commands.find_socket(arguments(None, config=config)) == Path(found)


def test_without_a_named_device_the_only_socket_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "tunmesh.toml"
    config.write_text(f'[admin]\nsocket = "{tmp_path}/<device>.sock"\n')
    with pytest.raises(AdminError, match="is tunmesh running"):
        commands.find_socket(arguments(None, config=config))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(str(tmp_path / "tun3.sock"))
    assert commands.find_socket(arguments(None, config=config)) == tmp_path / "tun3.sock"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 62, "4096.0 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert commands.size(count) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(duration: float, text: str) -> None:
    assert commands.seconds(duration) == text


@given(st.lists(st.lists(st.text(), min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_are_one_line_a_row(rows: list[list[str]]) -> None:
    lines = commands.columns(rows)
    assert len(lines) == len(rows)
    assert not any(set(line) & set("\n\r\x1b") for line in lines)


def test_what_is_wrong_is_shown() -> None:
    status = msgspec.structs.replace(
        STATUS,
        conflicts=("10.42.1.2: held by b, claimed by c",),
        refused=(RefusedStatus("8.8.8.0/24", "b", "outside routing.accept_subnets"),),
        warnings=("subnet 192.168.7.0/24 cannot be reached",),
    )
    lines = "\n".join(commands.overview(status))
    assert "conflict   10.42.1.2: held by b, claimed by c\n" in lines
    assert "refused    8.8.8.0/24 of b: outside routing.accept_subnets\n" in lines
    assert "warning    subnet 192.168.7.0/24 cannot be reached\n" in lines


def test_the_table_of_groups() -> None:
    members = (
        MembershipStatus("b", "include", ("10.42.1.1",)),
        MembershipStatus("c", "exclude", ()),
        MembershipStatus("d", "exclude", ("10.42.1.9",)),
    )
    first = GroupStatus("239.1.2.3", None, True, ("b", "c", "d"), members, 7, 21, 3)
    second = GroupStatus("232.1.1.1", ("10.42.1.1",), False, ("b",), members[:1])
    third = GroupStatus("239.9.9.9", None, False, ())
    status = msgspec.structs.replace(STATUS, groups=(first, second, third))
    rows = [re.split(r"  +", line) for line in commands.group_table(status)]
    assert rows == [
        ["GROUP", "SOURCES", "LOCAL", "MEMBERS", "SENT", "COPIES", "LIMITED"],
        ["239.1.2.3", "any", "yes", "b(10.42.1.1),c,d(not 10.42.1.9)", "7", "21", "3"],
        ["232.1.1.1", "10.42.1.1", "no", "b(10.42.1.1)", "0", "0", "0"],
        ["239.9.9.9", "any", "no", "-", "0", "0", "0"],
    ]
