from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tunmesh.loader.validation import HOOKS

pytestmark = pytest.mark.usefixtures("shouter")

Run = Callable[..., Any]


def test_the_list_as_json(run: Run) -> None:
    code, out, err = run("plugins", "--json", "--plugins", "shouter,missing")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == 1
    plugins = {entry["name"]: entry for entry in document["plugins"]}
    assert plugins["shouter"] == {
        "name": "shouter",
        "distribution": "shouter",
        "version": "3.0",
        "roles": ["transport", "tun"],
        "state": "active",
        "error": None,
        "enabled": True,
    }
    assert plugins["missing"]["state"] == "missing"
    assert plugins["missing"]["error"] == "is not installed"
    assert plugins["broken"]["state"] == "available"
    assert plugins["broken"]["enabled"] is False


def test_the_list_as_a_table(run: Run) -> None:
    code, out, _ = run("plugins", "--plugins", "shouter,broken")
    assert code == 0
    lines = [line.split(None, 5) for line in out.splitlines()]
    assert lines[0] == ["NAME", "STATE", "ROLES", "DISTRIBUTION", "VERSION", "ERROR"]
    assert lines[1] == ["shouter", "active", "transport,tun", "shouter", "3.0"]
    assert lines[2][1:5] == ["import-failed", "-", "shouter", "3.0"]
    assert lines[2][5] == "import failed: OSError: no luck"


def test_the_list_imports_no_unselected_plugin(run: Run) -> None:
    run("plugins")
    assert "fixture_shouter" not in sys.modules


def test_check_tells_what_a_plugin_offers(run: Run) -> None:
    code, out, err = run("plugins", "check", "shouter")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "plugin shouter of shouter 3.0: good",
        "hooks: tunmesh_tun_backends, tunmesh_transports, tunmesh_add_commands",
        "transport: shouts",
        "  volume = 5",
        '  password = ""',
        "tun: ears",
    ]


def test_check_tells_what_is_wrong(run: Run) -> None:
    assert run("plugins", "check", "broken") == (
        1,
        "",
        "tunmesh: plugin broken (from shouter): import failed: OSError: no luck\n",
    )
    assert run("plugins", "check", "none").code == 1


def test_the_hooks(run: Run) -> None:
    code, out, _ = run("plugins", "--hooks")
    assert code == 0
    assert "tunmesh_peer_down(peer: PeerInfo, reason: str) -> None\n    No path to a peer" in out
    assert [line.partition("(")[0] for line in out.splitlines() if line[:1] == "t"] == list(HOOKS)


def test_a_new_secret_each_time(run: Run) -> None:
    secrets = {run("secret", "generate").out.strip() for _ in range(3)}
    assert len(secrets) == 3
    assert all(len(secret) >= 32 for secret in secrets)


def test_the_list_tells_what_a_node_lacks(run: Run) -> None:
    code, out, err = run("plugins", "--plugins", "broken")
    assert code == 0
    assert "import-failed" in out
    assert err == (
        "tunmesh: --plugins: plugins.enabled: no plugin fills the role transport "
        "(broken: import failed: OSError: no luck)\n"
    )
