"""Configurations of the predecessor."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.config import read_config
from tunmesh.config.importing import import_config
from tunmesh.errors import ConfigError

SECRET = "a-secret-of-the-predecessor-0123456789"
COMPLETE = f"""
tun_mesh:
  config_version: 1.1
  clustering:
    control_api_advertise_url: https://192.0.2.1:4567
    auth:
      secret: "{SECRET}"
    bootstrap_groups:
      seeds:
        bootstrap_node_urls: [https://192.0.2.2:4567, "https://lb.example.com"]
        bootstrap_retries: 3
      "odd name":
        bootstrap_node_urls:
  control_api:
    listen_port: 4567
    max_batch_size: 64
    ssl:
      cert_file_path: node.crt
      key_file_path: node.key
      verify_hostname: no
  logging:
    level: warn
  monitoring:
    method: prometheus
    prometheus:
      base_labels: {{site: a}}
  networking:
    tun_device_id: tun7
    ipv4:
      network_cidr: 10.42.0.0/16
      node_address_cidr: 10.42.1.1/24
      enable_broadcast: "true"
  process:
    uid: 1000
    ipc: {{group: {{key_range_min: 0x80000000}}}}
    timing:
      registrations:
        bootstrap_retry_interval: 10..20s
        startup_grace: 90
        local: {{reregistration_interval: 4, stale_threshold: 1m}}
        mesh: {{stale_threshold: 0.05h}}
"""


def imported(text: str) -> tuple[dict[str, Any], list[str]]:
    result = import_config(text)
    return tomllib.loads(result.text()), result.notes


def test_what_has_a_counterpart_is_carried_over() -> None:
    tables, _ = imported(COMPLETE)
    assert tables == {
        "mesh": {"networks": ["10.42.0.0/16"], "secret_file": "mesh.secret"},
        "node": {
            "addresses": ["10.42.1.1/24"],
            "advertise": ["https://192.0.2.1:4567"],
            "user": "1000",
        },
        "plugins": {
            "tun_linux": {"device": "tun7"},
            "https": {
                "listen": ["0.0.0.0:4567"],
                "cert_file": "node.crt",
                "key_file": "node.key",
                "verify_hostname": False,
            },
        },
        "bootstrap": {
            "seeds": {
                "urls": ["https://192.0.2.2:4567", "https://lb.example.com"],
                "retries": 3,
                "interval": "10s..20s",
            },
            "odd name": {"urls": [], "interval": "10s..20s"},
        },
        "routing": {"broadcast": True},
        "timing": {"reregister_local": 4, "stale_local": "1m", "stale_mesh": "0.05h"},
        "admin": {"startup_grace": 90},
        "log": {"level": "warning"},
    }


def test_what_has_none_is_told_with_the_reason() -> None:
    result = import_config(COMPLETE)
    for key in (
        "clustering.auth.secret",
        "control_api.max_batch_size",
        "monitoring.method",
        "monitoring.prometheus.base_labels.site",
        "process.ipc.group.key_range_min",
    ):
        (note,) = [note for note in result.notes if note.startswith(f"{key} is not carried over: ")]
        assert f"# {note}\n" in result.text()
    assert SECRET not in result.text()


def test_the_result_is_a_valid_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tunmesh.toml"
    file.write_text(import_config(COMPLETE).text())
    config, problems = read_config(str(file), environ={}, complete=True)
    assert problems == []
    assert config.bootstrap["seeds"].interval.low == 10


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("process: {uid: 01750}", "01750 is a number of base 8: 1000"),
        ("control_api: {listen_port: 1:15}", "1:15 is a number of base 60: 75"),
        (
            "networking: {tun_device_id: 7}",
            "networking.tun_device_id is not carried over: expected a string",
        ),
        ("networking: {tun_device_id: off}", "expected a string, got False"),
        ("control_api: {listen_port: true}", "expected a whole number"),
        ("networking: {ipv4: {enable_broadcast: 1}}", "expected true or false"),
        ("logging: {levels: info}", "unknown key, did you mean logging.level?"),
        ("process: {timing: {registrations: {mesh: {stale_threshold: soon}}}}", "expected a time"),
        (
            "clustering: {bootstrap_groups: {a: {bootstrap_node_urls: [1]}}}",
            "expected a string, got 1",
        ),
        ("clustering: {bootstrap_groups: {a: {bootstrap_node_urls: 1}}}", "not iterable"),
        ("clustering: {bootstrap_groups: {a: {urls: []}}}", "unknown key"),
        ("clustering: {bootstrap_groups: 1}", "expected a table"),
    ],
)
def test_what_cannot_be_read_is_told(line: str, note: str) -> None:
    notes = imported(f"tun_mesh:\n  {line}\n")[1]
    assert any(note in found for found in notes), notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- a", "has no table tun_mesh"),
        ("tun_mesh: 1", "has no table tun_mesh"),
        ("tun_mesh: {config_version: '2.0'}", "only 1.1 can be read"),
        ("tun_mesh: {a: !!python/object:os.system {}}", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_what_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        import_config(text)
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab:'[{\n"),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "process",
                        "uid",
                        "clustering",
                        "bootstrap_groups",
                        "networking",
                        "ipv4",
                        "enable_broadcast",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_it_holds_the_result_is_toml(value: Any) -> None:
    tomllib.loads(
        import_config(
            json.dumps(
                {
                    "tun_mesh": {
                        "a": value,
                        "clustering": {"bootstrap_groups": value},
                        **(value if isinstance(value, dict) else {}),
                    }
                }
            )
        ).text()
    )
