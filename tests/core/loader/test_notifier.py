from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

import pytest

from tunmesh.interfaces.events import NodeInfo, PeerInfo
from tunmesh.loader import PluginHost

Install = Callable[..., None]
MakeHost = Callable[..., PluginHost]

NODE = NodeInfo("id", "name", "tun1", ())
PEER = PeerInfo("id", "name", ())

LISTENER = """
from tunmesh.plugin import hookimpl
from fixture_dist_log import log

@hookimpl
def tunmesh_node_started(node): log.append((__name__, "started", node.name))

@hookimpl
def tunmesh_node_stopping(): log.append((__name__, "stopping"))

@hookimpl
def tunmesh_peer_up(peer):
    log.append((__name__, "up", peer.name))

@hookimpl
def tunmesh_peer_down(reason, peer): log.append((__name__, "down", peer.name, reason))
"""


@pytest.fixture
def host(install: Install, make_host: MakeHost) -> PluginHost:
    """Listeners ``a`` and ``c`` that log, and between them ``b`` that raises."""
    install("log", "log = []")
    install("a", LISTENER)
    install("b", LISTENER.replace("    log.append(", "    raise ValueError("))
    install("c", LISTENER)
    host = make_host()
    host.load(["a", "b", "c"], explicit=True)
    return host


def logged() -> list[tuple[str, ...]]:
    log: list[tuple[str, ...]] = sys.modules["fixture_dist_log"].log
    return [(name.removeprefix("fixture_dist_"), *what) for name, *what in log]


def test_plugins_are_told_in_their_order(host: PluginHost) -> None:
    host.notify_node_started(NODE)
    host.notify_peer_down(PEER, "why")
    host.notify_node_stopping(NODE)
    assert logged() == [
        ("a", "started", "name"),
        ("b", "started", "name"),
        ("c", "started", "name"),
        ("a", "down", "name", "why"),
        ("b", "down", "name", "why"),
        ("c", "down", "name", "why"),
        ("a", "stopping"),
        ("b", "stopping"),
        ("c", "stopping"),
    ]


def test_a_plugin_that_raises_is_logged_and_hurts_nobody(
    host: PluginHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        host.notify_peer_up(PEER)
    assert logged() == [("a", "up", "name"), ("c", "up", "name")]
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "plugin hook failed plugin=b hook=tunmesh_peer_up error=ValueError: "
    )
    assert not record.exc_info


def test_commands_are_added_and_failures_returned(install: Install, make_host: MakeHost) -> None:
    add = "from tunmesh.plugin import hookimpl\n@hookimpl\ndef tunmesh_add_commands(subparsers):\n"
    install("a", add + "    subparsers.add_parser('hello')")
    install("b", add + "    subparsers.add_parsr('hello')")
    host = make_host()
    host.load(["b", "a"], explicit=True)
    commands = argparse.ArgumentParser().add_subparsers()
    (error,) = host.add_commands(commands)
    assert str(error).startswith("plugin b: tunmesh_add_commands raised AttributeError: ")
    assert list(commands.choices) == ["hello"]
