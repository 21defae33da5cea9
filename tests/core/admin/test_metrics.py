from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tunmesh.admin.metrics import BUILD_INFO, METRICS, START_TIME, Metrics
from tunmesh.admin.status import Status
from tunmesh.counters import DROP_REASONS


def link(**changes: Any) -> dict[str, Any]:
    return {
        "transport": "udp", "endpoint": "udp://192.0.2.1:4567", "state": "up", "active": True,
        "rtt_ms": 0.5, "loss": 0.01, "mtu": 1472, "cipher": "aes256gcm", "handshake_age_s": 3.0,
        "rx_bytes": 1, "tx_bytes": 2, **changes,
    }  # fmt: skip


def peer(name: str, *links: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": name * 8, "name": name, "addresses": [], "subnets": [], "state": "up",
        "via": "direct", "links": links, "rx_packets": 10, "tx_packets": 20, "rx_bytes": 100,
        "tx_bytes": 200, "last_seen_s": 0.1, **changes,
    }  # fmt: skip


def status(*peers: dict[str, Any], **changes: Any) -> Status:
    group = {
        "group": "239.1.2.3", "sources": None, "local": True, "members": ["b"], "packets": 5,
        "replicas": 10, "rate_limited": 1,
    }  # fmt: skip
    document = {
        "version": "0.1", "mesh": {"name": "m", "networks": []}, "peers": peers, "plugins": [],
        "node": {
            "id": "0", "name": "a", "addresses": [], "subnets": [], "endpoints": [],
            "uptime_s": 1.0, "healthy": True, "loop_lag_s": 0.25,
        },
        "device": {
            "name": "tun1", "backend": "b", "mtu": 1400, "offloads": [], "rx_packets": 1,
            "rx_bytes": 2, "tx_packets": 3, "tx_bytes": 4,
        },
        "routes": [], "groups": [group], "drops": dict.fromkeys(DROP_REASONS, 0),
        "handshakes": {"ok": 3, "unanswered": 2}, "handshakes_received": {"udp": {"ok": 3}},
        "transports": {"udp": {"sent": 7}}, "relay": {"forwarded": 6}, "tables": {"flows": 9},
        **changes,
    }  # fmt: skip
    return msgspec.convert(document, Status)


TRAFFIC = {"rx_packets": 1, "rx_bytes": 2, "tx_packets": 3, "tx_bytes": 4}


def samples(found: Status, labels: dict[str, str] | None = None) -> dict[str, float]:
    text, kind = Metrics(lambda: found, labels or {}, 1e9).render("")
    assert kind.startswith("text/plain")
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_values() -> None:
    down = link(transport="https", state="down", active=False, rtt_ms=None)
    found = samples(status(peer("b", link(), down, carried={"udp": TRAFFIC})))
    udp = "[('peer', 'b'), ('transport', 'udp')]"
    assert found["tunmesh_tun_rx_packets_total[]"] == 1
    assert found["tunmesh_tun_tx_bytes_total[]"] == 4
    assert found[f"tunmesh_peer_tx_packets_total{udp}"] == 3
    assert found[f"tunmesh_link_rtt_seconds{udp}"] == 0.0005
    https = udp.replace("udp", "https")
    assert f"tunmesh_link_rtt_seconds{https}" not in found
    assert (found[f"tunmesh_link_up{https}"], found[f"tunmesh_link_active{udp}"]) == (0, 1)
    assert found["tunmesh_peers[('state', 'up')]"] == 1
    assert found["tunmesh_peers[('state', 'stale')]"] == 0
    assert found["tunmesh_handshakes_total[('result', 'ok'), ('transport', 'udp')]"] == 3
    assert found["tunmesh_handshakes_total[('result', 'unanswered'), ('transport', '')]"] == 2
    assert found["tunmesh_group_replicas_total[('group', '239.1.2.3')]"] == 10
    assert found["tunmesh_plugin_statistic[('name', 'sent'), ('plugin', 'udp')]"] == 7
    assert found["tunmesh_loop_lag_seconds[]"] == 0.25
    assert found[f"{START_TIME}[]"] == 1e9
    assert found[f"{BUILD_INFO}[('version', '0.1')]"] == 1
    assert found["process_open_fds[]"] > 0


def test_every_reason_is_there_from_the_start() -> None:
    found = samples(status())
    for reason in DROP_REASONS:
        assert found[f"tunmesh_dropped_packets_total[('reason', '{reason}')]"] == 0


def test_what_is_told_of_a_peer_ends_with_it() -> None:
    metrics = Metrics(lambda: documents.pop(0), {}, 0.0)
    documents = [status(peer("b", link(), carried={"udp": TRAFFIC})), status()]
    assert b'peer="b"' in metrics.render("")[0]
    assert b'peer="' not in metrics.render("")[0]


def test_the_operators_labels_are_on_every_series_of_the_node() -> None:
    for name in samples(status(peer("b", link())), {"region": "eu"}):
        assert "('region', 'eu')" in name or name.startswith("process_")


def test_the_rules_of_promtool() -> None:
    """Names, units and help as `promtool check metrics` wants them."""
    for metric in METRICS:
        name = metric.shown_name
        assert re.fullmatch(r"tunmesh_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.kind == "counter")
        assert metric.meaning.endswith(".")
        assert not re.search(r"_(ms|milliseconds|kib|percent|count)(_|$)", name)
        assert len(set(metric.labels)) == len(metric.labels)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_openmetrics_for_who_asks_for_it() -> None:
    text, kind = Metrics(lambda: status(peer("b", link())), {}, 0.0).render(
        "application/openmetrics-text; version=1.0.0"
    )
    assert kind.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics_families(text.decode())}  # type: ignore[no-untyped-call]
    assert {"tunmesh_dropped_packets", "tunmesh_link_mtu_bytes"} <= names


@pytest.mark.parametrize("name", ['b"\\', "b\n", "é"])
def test_names_of_others_are_escaped(name: str) -> None:
    found = samples(status(peer(name, link())))
    assert any(repr(("peer", name)) in key for key in found)
