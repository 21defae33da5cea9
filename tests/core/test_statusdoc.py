"""The status document of nodes in a simulated mesh."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from tests.core.fakes import frame
from tunmesh import __version__, statusdoc
from tunmesh.admin.status import Status
from tunmesh.counters import DROP_REASONS
from tunmesh.identity.secrets import Keyring
from tunmesh.mesh import MeshSettings
from tunmesh.testing import MemoryNetwork
from tunmesh.testing.nodes import SECRET, SimulatedNode

PLUGIN: dict[str, Any] = {
    "name": "memory",
    "distribution": "tunmesh",
    "version": "1",
    "roles": ["tun"],
    "state": "active",
    "error": None,
}


def fingerprint(secret: bytes) -> str:
    return Keyring([secret], "test").current.psk_id.hex()


def document(node: SimulatedNode, **changes: Any) -> dict[str, Any]:
    """The document as a program reads it."""
    values = {
        "mesh_name": "test",
        "backend": "memory",
        "plugins": [PLUGIN],
        "uptime": 12.34567,
        "healthy": True,
        "now": node.network.now(),
    }
    found = statusdoc.build(node.mesh, node.tun, **{**values, **changes})
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return read


def peers(node: SimulatedNode) -> dict[str, dict[str, Any]]:
    return {peer["name"]: peer for peer in document(node)["peers"]}


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture
def pair(network: MemoryNetwork) -> tuple[SimulatedNode, SimulatedNode]:
    """Two nodes with a session."""
    one = SimulatedNode(network, "one", ["10.42.0.1/24", "fd42::1/64"])
    two = SimulatedNode(network, "two", ["10.42.0.2/24"], [one.endpoint])
    network.run_until(network.now() + 5)
    assert one.up_peers() == {"two"}
    return one, two


def test_a_lonely_node(network: MemoryNetwork) -> None:
    node = SimulatedNode(network, "one", ["10.42.0.1/24"])
    found = document(node)
    assert found["schema"] == 1
    assert found["version"] == __version__
    assert found["mesh"] == {
        "name": "test",
        "networks": ["10.0.0.0/8", "fd00::/16"],
        "trust": "secret",
        "secrets": [fingerprint(SECRET)],
        "peers_old_secret": 0,
    }
    assert found["node"] == {
        "id": node.key.node_id,
        "name": "one",
        "addresses": ["10.42.0.1/24"],
        "subnets": [],
        "endpoints": ["memory://one:4567"],
        "uptime_s": 12.346,
        "healthy": True,
        "loop_lag_s": 0.0,
    }
    assert found["device"] == {
        "name": "memory0",
        "backend": "memory",
        "mtu": 1400,
        "offloads": ["csum", "tso4", "tso6", "uso4", "uso6"],
        "rx_packets": 0,
        "rx_bytes": 0,
        "tx_packets": 0,
        "tx_bytes": 0,
    }
    assert set(found["tables"]) == {"records", "peers", "keypairs", "routes", "flows", "staged"}
    assert found["plugins"] == [PLUGIN]
    assert found["peers"] == []
    assert found["drops"] == dict.fromkeys(DROP_REASONS, 0)
    assert set(found["transports"]) == {"memory"}
    assert not document(node, healthy=False)["node"]["healthy"]


def test_it_fits_its_types(pair: tuple[SimulatedNode, SimulatedNode]) -> None:
    for node in pair:
        found = document(node)
        typed = msgspec.convert(found, Status)
        assert msgspec.json.decode(msgspec.json.encode(typed)) == found


def test_a_peer_that_is_up(pair: tuple[SimulatedNode, SimulatedNode]) -> None:
    one, two = pair
    one.tun.inject(frame("10.42.0.1", "10.42.0.2", bytes(80)))
    one.network.run_until(one.network.now() + 1)
    assert len(two.tun.written) == 1
    peer = peers(one)["two"]
    assert peer["id"] == two.key.node_id
    assert (peer["addresses"], peer["subnets"]) == (["10.42.0.2"], [])
    assert (peer["state"], peer["via"]) == ("up", "direct")
    assert (peer["tx_packets"], peer["tx_bytes"], peer["rx_packets"]) == (1, 100, 0)
    assert peer["last_seen_s"] < 3
    (link,) = peer["links"]
    assert (link["transport"], link["endpoint"]) == ("memory", "memory://two:4567")
    assert (link["state"], link["active"], link["mtu"]) == ("up", True, 1472)
    assert link["cipher"] in {"aes256gcm", "chacha20poly1305"}
    assert link["rtt_ms"] >= 0
    assert link["loss"] == 0
    assert 4 < link["handshake_age_s"] < 7
    assert link["rx_bytes"] > 0 < link["tx_bytes"]
    assert peers(two)["one"]["rx_packets"] == 1
    assert document(one)["handshakes"]["ok"] >= 1


def test_routes_have_names(pair: tuple[SimulatedNode, SimulatedNode]) -> None:
    one, _ = pair
    routes = {route["prefix"]: route for route in document(one)["routes"]}
    assert routes["10.42.0.2/32"] == {
        "prefix": "10.42.0.2/32",
        "kind": "address",
        "peers": ["two"],
        "source": "core",
        "metric": 0,
    }
    assert routes["255.255.255.255/32"]["kind"] == "broadcast"


def test_names_that_repeat_are_told_apart(network: MemoryNetwork) -> None:
    one = SimulatedNode(network, "host", ["10.42.0.1/24"])
    two = SimulatedNode(network, "two", ["10.42.0.2/24"], [one.endpoint])
    two.mesh.directory.update_own(network.now(), name="host")
    network.run_until(network.now() + 10)
    assert list(peers(one)) == [f"host#{two.key.node_id[:4]}"]
    assert list(peers(two)) == [f"host#{one.key.node_id[:4]}"]


def test_a_peer_is_seen_to_go(pair: tuple[SimulatedNode, SimulatedNode]) -> None:
    one, two = pair
    two.kill()
    states = []
    for _ in range(60):
        one.network.run_until(one.network.now() + 3)
        states.append(peers(one).get("two", {"state": "forgotten"})["state"])
    seen = list(dict.fromkeys(states))
    assert seen[0] == "up"
    assert seen[1] == "connecting"
    assert "stale" in seen
    last = peers(one).get("two")
    assert last is None or last["last_seen_s"] > 100


def test_a_peer_that_is_not_wanted_is_down(pair: tuple[SimulatedNode, SimulatedNode]) -> None:
    one, two = pair
    one.mesh.peers.pop(two.key.node_id).close()
    peer = peers(one)["two"]
    assert (peer["state"], peer["links"], peer["rx_bytes"]) == ("down", [], 0)


def test_a_node_known_only_by_its_session_has_a_short_name(network: MemoryNetwork) -> None:
    one = SimulatedNode(network, "one", ["10.42.0.1/24"])
    two = SimulatedNode(network, "two", ["10.42.0.2/24"])
    one.mesh.roster.ensure(two.key.node_id, two.key.x25519_public, network.now())
    peer = peers(one)[two.key.node_id[:8]]
    assert (peer["state"], peer["addresses"], peer["last_seen_s"]) == ("down", [], None)


def test_conflicts_are_readable(network: MemoryNetwork) -> None:
    settings = MeshSettings(networks=(ip_network("10.0.0.0/8"),))
    one = SimulatedNode(network, "one", ["10.42.0.1/24"], settings=settings)
    two = SimulatedNode(network, "two", ["10.42.0.2/24"], [one.endpoint], settings=settings)
    network.run_until(network.now() + 10)
    SimulatedNode(network, "three", ["10.42.0.2/24"], [one.endpoint], settings=settings)
    network.run_until(network.now() + 10)
    assert document(one)["conflicts"] == ["10.42.0.2: held by two, claimed by three"]
    assert two.key.node_id != one.key.node_id


def test_what_is_refused_and_what_does_not_work_is_told(network: MemoryNetwork) -> None:
    settings = MeshSettings(networks=(ip_network("10.0.0.0/8"),))
    one = SimulatedNode(network, "one", ["10.42.0.1/24"], settings=settings)
    subnets = [("192.168.7.0/24", 0)]
    SimulatedNode(network, "two", ["10.42.0.2/24"], [one.endpoint], subnets=subnets)
    network.run_until(network.now() + 5)
    found = document(one, warnings=["it does not work"])
    assert found["refused"] == [
        {"prefix": "192.168.7.0/24", "peer": "two", "reason": "outside routing.accept_subnets"}
    ]
    assert found["warnings"] == ["it does not work"]


def test_peers_whose_session_another_secret_made_are_counted(
    pair: tuple[SimulatedNode, SimulatedNode],
) -> None:
    one, _ = pair
    new = b"another secret of the simulated mesh, 0987654321"
    one.mesh.set_keyring(Keyring([new, SECRET], "test"))
    found = document(one)["mesh"]
    assert found["secrets"] == [fingerprint(new), fingerprint(SECRET)]
    assert found["peers_old_secret"] == 1
    assert peers(one)["two"]["secret"] == fingerprint(SECRET)
