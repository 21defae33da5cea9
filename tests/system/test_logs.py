"""What real nodes log at the level for debugging: nothing that must stay secret."""

from __future__ import annotations

import json

from tests.keymaterial import leaks
from tests.system.conftest import MeshFactory
from tests.system.lab import eventually
from tests.system.node import PATIENCE, SECRET
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import derive

OTHER_SECRET = "another-secret-for-tests-9876543210zyxwvuts"
PROXY_PASSWORD = "hunter2-of-the-proxy"


def test_no_secret_is_logged(meshes: MeshFactory) -> None:
    mesh = meshes("a", "b", "c")
    states = {name: mesh.directory / f"state-{name}" for name in "abc"}
    url4, url6 = mesh.lab["a"].url(), f"https://{mesh.lab['a'].address4}:4443"
    for name, style in zip("abc", ("text", "json", "text"), strict=True):
        options = {
            "log": {"level": "debug", "format": style},
            "node": {"state_dir": str(states[name])},
            "plugins": {"enabled": ["tun_linux", "ifaddr", "udp", "https", "igmp"]},
            "mesh": {"secret": OTHER_SECRET if name == "c" else SECRET},
        }
        if name == "c":  # a stranger, behind a proxy that is not there
            proxy = f"http://user:{PROXY_PASSWORD}@{mesh.lab['c'].address4}:1"
            options["plugins"]["https"] = {"proxy": proxy}  # type: ignore[index]
        mesh.add(name, [url4, url6] if name != "a" else [], options=options)
    mesh.start()
    a, b, c = mesh
    eventually(lambda: "b" in a.peers() and "a" in b.peers(), 10 * PATIENCE, "peers")
    garbage = b.host.socket(2, 2)
    with garbage:
        for kind in range(8):
            garbage.sendto(bytes([kind]) * 200, (mesh.lab["a"].address4, 4567))
    eventually(
        lambda: "bootstrap url failed" in c.log_text(), 10 * PATIENCE, "the proxy is not there"
    )
    b.host.run("ping", "-n", "-c", 3, "-i", 0.2, "-W", 5, a.overlay4)
    keys = {SECRET.encode(), OTHER_SECRET.encode(), PROXY_PASSWORD.encode()}
    for secret in (SECRET, OTHER_SECRET):
        derived = derive(secret.encode(), "test")
        keys |= {derived.psk, derived.gate, derived.jwt}
    for state in states.values():
        keys |= {(state / "node.key").read_bytes(), NodeKey.load_or_create(state).x25519_private}
    for node in mesh:
        node.stop()
        text = node.log_text()
        assert "debug" in text, "nothing was logged for debugging"
        assert leaks(text, keys) == [], node.name
    for line in b.log_text().splitlines():
        assert {"time", "level", "logger", "event"} <= set(json.loads(line))
