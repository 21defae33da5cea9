"""What a reload plans, applies and refuses, with a node that only remembers."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import Annotated, Any

import anyio
import msgspec
import pytest
from msgspec import Meta, structs

from tunmesh.config import (
    BootstrapOptions,
    Config,
    MeshOptions,
    NodeOptions,
    Problem,
    RoutingOptions,
)
from tunmesh.config.types import LogOptions
from tunmesh.errors import BadPacket, ConfigError
from tunmesh.identity.secrets import Keyring
from tunmesh.interfaces import SupportsReload
from tunmesh.node.reloading import Plan, Reloading, Source, document

pytestmark = pytest.mark.anyio

OLD, NEW = b"the secret that was, 0123456789abcdef", b"the secret that comes, 0123456789abcd"
CONFIG = Config(mesh=MeshOptions(networks=(ip_network("10.42.0.0/16"),)))


class Options(msgspec.Struct, frozen=True):
    volume: Annotated[int, Meta(extra={"applies": "live"})] = 1
    device: str = "tun1"


class Follows(SupportsReload):
    def __init__(self) -> None:
        self.fails = False
        self.followed: list[Options] = []

    def reload(self, options: Options) -> None:
        if self.fails:
            raise KeyError("a defect")
        self.followed.append(options)


class Bench:
    """A node's reloading, and what the file says."""

    def __init__(self, *, unprivileged: bool = False) -> None:
        self.config = CONFIG
        self.options = Options()
        self.problems: list[Problem] = []
        self.secrets = [OLD]
        self.error: Exception | None = None
        self.secret_error: Exception | None = None
        self.followed: list[Config] = []
        self.follow_error: Exception | None = None
        self.keyrings: list[Keyring] = []
        self.reading = 0
        self.most_reading = 0
        self.policy, self.transport = Follows(), object()
        plugins: Any = self
        self.reloading = Reloading(
            Source(self._read, self._secrets),
            CONFIG,
            plugins,
            {("loud", "policy"): self.policy, ("deaf", "transport"): self.transport},
            Keyring([OLD], "tunmesh"),
            self,
            unprivileged=unprivileged,
        )

    def _read(self) -> tuple[Config, list[Problem]]:
        if self.error is not None:
            raise self.error
        return self.config, self.problems

    def _secrets(self, config: Config) -> tuple[list[bytes], list[str]]:
        if self.secret_error is not None:
            raise self.secret_error
        return self.secrets, []

    def options_of(self, _config: Config) -> tuple[dict[tuple[str, str], Options], list[Problem]]:
        return {("loud", "policy"): self.options, ("deaf", "transport"): self.options}, []

    def follow(self, config: Config) -> None:
        self.followed.append(config)
        if self.follow_error is not None:
            error, self.follow_error = self.follow_error, None
            raise error

    def set_keyring(self, keyring: Keyring) -> None:
        self.keyrings.append(keyring)

    def change(self, **tables: Any) -> None:
        self.config = structs.replace(self.config, **tables)

    async def reload(self) -> dict[str, tuple[str, str, str]]:
        plan = await self.reloading.reload()
        assert plan.problems == []
        return {c.key: (c.old, c.new, c.applies) for c in plan.changes}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_nothing_has_changed(bench: Bench) -> None:
    assert await bench.reloading.reload() == Plan()
    assert bench.followed == []
    assert bench.keyrings == []


async def test_what_is_live_is_applied_and_the_rest_waits_for_a_restart(bench: Bench) -> None:
    bench.change(
        mesh=MeshOptions(networks=(ip_network("10.43.0.0/16"),), cipher="aes256gcm"),
        bootstrap={"seeds": BootstrapOptions(("udp://192.0.2.1:1",))},
        log=LogOptions(level="debug"),
    )
    changes = await bench.reload()
    assert {key: change[2] for key, change in changes.items()} == {
        "mesh.networks": "restart",
        "mesh.cipher": "reconnect",
        "bootstrap.seeds": "live",
        "log.level": "live",
    }
    (config,) = bench.followed
    assert config.mesh.networks == CONFIG.mesh.networks
    assert (config.mesh.cipher, config.log.level) == ("aes256gcm", "debug")
    assert await bench.reload() == {"mesh.networks": changes["mesh.networks"]}
    assert len(bench.followed) == 1


@pytest.mark.parametrize("broken", ["unreadable", "wrong", "secret"])
async def test_a_broken_configuration_is_refused_with_all_its_problems(
    bench: Bench, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.change(log=LogOptions(level="debug"))
    bench.secrets = [NEW]
    if broken == "unreadable":
        bench.error = ConfigError("cannot be read: Permission denied", path="x.toml")
    elif broken == "wrong":
        bench.problems = [Problem("unknown key", "a.b"), Problem("must be more", "c.d")]
    else:
        bench.secret_error = ConfigError("is too short", key="mesh.secret_file")
    plan = await bench.reloading.reload()
    assert len(plan.problems) == (2 if broken == "wrong" else 1)
    assert plan.changes == []
    assert bench.followed == []
    assert bench.keyrings == []
    assert "reload refused" in caplog.text
    bench.error = bench.secret_error = None
    bench.problems = []
    assert set(await bench.reload()) == {"log.level", "mesh secrets, by fingerprint"}


async def test_a_secret_that_privileges_are_missing_for_stays() -> None:
    bench = Bench(unprivileged=True)
    bench.change(log=LogOptions(level="debug"))
    denied = ConfigError("/etc/x: Permission denied", key="mesh.secret_file")
    denied.__cause__ = PermissionError()
    bench.secret_error = denied
    plan = await bench.reloading.reload()
    assert [change.key for change in plan.changes] == ["log.level"]
    assert "the secrets in force stay" in plan.warnings[0]
    assert bench.keyrings == []


async def test_secrets_are_told_by_their_fingerprints(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bench.secrets = [NEW, OLD]
    old, both = Keyring([OLD], "tunmesh"), Keyring([NEW, OLD], "tunmesh")
    assert await bench.reload() == {
        "mesh secrets, by fingerprint": (
            old.current.psk_id.hex(),
            ", ".join(keys.psk_id.hex() for keys in both.all),
            "live",
        )
    }
    assert bench.keyrings[0].all == both.all
    assert NEW.decode() not in caplog.text
    assert "applies=live" in caplog.text
    assert await bench.reload() == {}


async def test_plugins_follow_if_they_can(bench: Bench) -> None:
    bench.options = Options(volume=11, device="tun2")
    assert await bench.reload() == {
        "plugins.loud.volume": ("1", "11", "live"),
        "plugins.loud.device": ('"tun1"', '"tun2"', "restart"),
        "plugins.deaf.volume": ("1", "11", "restart"),
        "plugins.deaf.device": ('"tun1"', '"tun2"', "restart"),
    }
    assert bench.policy.followed == [Options(volume=11)]
    assert "plugins.loud.volume" not in await bench.reload()


async def test_a_plugin_that_fails_is_asked_again(bench: Bench) -> None:
    bench.options = Options(volume=11)
    bench.policy.fails = True
    plan = await bench.reloading.reload()
    assert plan.warnings == ["plugins.loud: not applied: KeyError: 'a defect'"]
    bench.policy.fails = False
    assert "plugins.loud.volume" in await bench.reload()
    assert bench.policy.followed == [Options(volume=11)]


async def test_what_others_would_not_accept_is_taken_back(bench: Bench) -> None:
    bench.change(log=LogOptions(level="debug"))
    bench.follow_error = BadPacket("too many subnets")
    plan = await bench.reloading.reload()
    assert plan.problems == ["too many subnets"]
    assert [config.log.level for config in bench.followed] == ["debug", "info"]
    assert "log.level" in await bench.reload()


async def test_what_belongs_to_the_start_waits_for_a_restart(bench: Bench) -> None:
    default = RoutingOptions(accept_subnets=(ip_network("0.0.0.0/0"),))
    bench.change(routing=default, node=NodeOptions(addresses=("auto",)))
    changes = await bench.reload()
    assert {key: change[2] for key, change in changes.items()} == {
        "node.addresses": "restart",
        "routing.accept_subnets": "restart",
    }
    bench.change(
        routing=RoutingOptions(accept_subnets=()), node=NodeOptions(addresses=("10.42.0.1/24",))
    )
    assert {change[2] for change in (await bench.reload()).values()} == {"live"}


async def test_reloads_come_one_after_another(bench: Bench) -> None:
    bench.change(log=LogOptions(level="debug"))
    found: list[Plan] = []

    async def reload() -> None:
        found.append(await bench.reloading.reload())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(reload)
    assert sorted(len(plan.changes) for plan in found) == [0, 0, 0, 0, 1]


async def test_the_answer_is_made_of_builtins(bench: Bench) -> None:
    bench.change(log=LogOptions(format="json"))
    assert document(await bench.reloading.reload()) == {
        "changes": [{"key": "log.format", "old": '"text"', "new": '"json"', "applies": "live"}],
        "problems": [],
        "warnings": [],
    }
