"""The kit itself: it covers the interfaces, is not overridden in silence, and bites."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tunmesh.interfaces import (
    AddressProvider,
    Inbound,
    PathHandle,
    RoutingPolicy,
    Transport,
    Tun,
)
from tunmesh.interfaces.tun import DeviceConfig
from tunmesh.loader.validation import HOOKS
from tunmesh.plugin import (
    AddressRegistration,
    Direction,
    Flow,
    PolicyRegistration,
    Route,
    SupportsVerdict,
    TunRegistration,
    hookimpl,
)
from tunmesh.testing import MemoryTun
from tunmesh.testing.conformance import (
    CHECKS,
    AddressConformance,
    Conformance,
    PolicyConformance,
    TransportConformance,
    TunConformance,
)


def methods(kind: type) -> list[str]:
    """What somebody who implements, or calls, an interface has to do with."""
    return [
        f"{kind.__name__}.{name}"
        for name, value in vars(kind).items()
        if inspect.isfunction(value)
        and (not name.startswith("_") or name in ("__aenter__", "__aexit__"))
    ]


@pytest.mark.parametrize("kind", [Transport, Tun, RoutingPolicy, SupportsVerdict, AddressProvider])
def test_every_method_of_an_interface_has_a_check_and_a_docstring(kind: type) -> None:
    found = methods(kind)
    assert found
    assert set(found) <= CHECKS.keys()
    for name in found:
        attribute = name.partition(".")[2]
        if not (attribute.startswith("__") and kind is RoutingPolicy):
            assert getattr(kind, attribute).__doc__, name


def test_every_hook_has_a_check() -> None:
    assert set(HOOKS) <= CHECKS.keys()


def test_what_a_transport_reports_has_checks() -> None:
    reported = set(methods(Inbound)) - {"Inbound.endpoints_changed"}
    assert reported <= CHECKS.keys()


def test_checks_are_of_methods_that_exist() -> None:
    known = {
        name for kind in (Transport, Tun, RoutingPolicy, AddressProvider) for name in methods(kind)
    }
    assert {name for name in CHECKS if name.split(".")[0] in ("Transport", "Tun")} <= known


def test_a_test_of_the_kit_is_not_overridden_in_silence() -> None:
    with pytest.raises(TypeError, match=r"overrides test_import_is_quick_and_light .*xfail"):

        class Silent(TransportConformance):
            test_import_is_quick_and_light = None  # type: ignore[assignment]

    class Confessed(TransportConformance):
        @pytest.mark.xfail(reason="it needs a library that takes long")
        def test_import_is_quick_and_light(self) -> None:
            super().test_import_is_quick_and_light()

        def test_of_its_own(self) -> None:
            pass

    assert issubclass(Confessed, Conformance)


class Loose(msgspec.Struct):
    """Options that anybody may change."""

    size: int = 1


class Secretive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options that do not come back from the example."""

    size: int = 1

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Failing:
    """A plugin whose hooks raise."""

    @hookimpl
    def tunmesh_tun_backends(self) -> Iterable[TunRegistration]:
        return [TunRegistration("in memory", lambda _: MemoryTun(), Loose)]

    @hookimpl
    def tunmesh_peer_up(self, peer: object) -> None:
        raise KeyError("a defect")


class BrokenTun(MemoryTun):
    """Everything that a device may do wrong."""

    def __init__(self) -> None:
        super().__init__(mtu=500)
        self.kept: list[memoryview] = []

    def fileno(self) -> int:
        return -1

    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        return super().read_batch(buffer, 0, 1 << 20)

    def write_batch(self, frames: Any) -> int:
        self.kept += [memoryview(frame) for frame in frames]
        return 0

    async def apply(self, config: DeviceConfig) -> None:
        if self.applied and self.applied[-1] == config:
            raise FileExistsError("applied already")
        await super().apply(config)

    def forwards(self, version: int) -> bool:
        return None  # type: ignore[return-value]

    async def host_sends(self) -> None:
        self.inject(bytes(10) + b"\x45" + bytes(30))


class BrokenPolicy(RoutingPolicy, SupportsVerdict):
    """Everything that a policy may do wrong."""

    claims = frozenset({2})

    def __init__(self, context: Any) -> None:
        self.context = context
        self.kept: list[memoryview] = []

    async def __aenter__(self) -> Any:
        self.context.wake_at(self.context.now() + 1)
        return self

    def routes(self) -> Iterable[Route]:
        return [Route(self.context.addresses()[0].network, "subnet", ("ff" * 16,))]

    def claimed(self, packet: memoryview) -> None:
        self.kept.append(packet[:1])

    def handle_timer(self, now: float) -> None:
        self.context.wake_at(now)

    def statistics(self) -> dict[str, int]:
        return {"Seen-Packets": 1}

    def verdict(self, flow: Flow, direction: Direction) -> tuple[bool, float]:
        return True, float("nan")


class BrokenProvider(AddressProvider):
    """Publishes nothing."""

    def __init__(self, context: Any) -> None:
        self.context = context

    async def __aenter__(self) -> Any:
        self.context.start_soon(anyio.sleep_forever)
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class TunCase(TunConformance):
    plugin = Failing()
    patience = 0.2

    def registration(self) -> TunRegistration:
        return TunRegistration("broken", lambda _: BrokenTun())

    async def host_sends(self, tun: Tun) -> None:
        assert isinstance(tun, MemoryTun)
        tun.inject(bytes(10) + b"\x45" + bytes(30))
        tun.inject(bytes(10) + b"\x45" + bytes(30))


class PolicyCase(PolicyConformance):
    patience = 0.2

    def registration(self) -> PolicyRegistration:
        return PolicyRegistration("broken", BrokenPolicy)


class AddressCase(AddressConformance):
    patience = 0.2

    def registration(self) -> AddressRegistration:
        return AddressRegistration("broken", BrokenProvider)


def _case(registration: Any) -> type[Conformance]:
    class Case(TunConformance):
        def registration(self) -> Any:
            return registration

    return Case


def _tun(options: type, summary: str = "in memory") -> type[Conformance]:
    return _case(TunRegistration(summary, lambda _: MemoryTun(), options))


ASYNC: list[tuple[type[Conformance], str, str]] = [
    (TunCase, "attributes_are_as_declared", "500"),
    (TunCase, "frames_lie_where_they_should", ""),
    (TunCase, "reading_stops_at_the_fill", ""),
    (TunCase, "frames_are_written_and_refused", "BufferError"),
    (TunCase, "a_configuration_may_come_again_and_go", "applied already"),
    (TunCase, "what_it_tells_of_the_host_has_its_types", "isinstance"),
    (TunCase, "the_descriptor_goes_with_the_device", "Bad file descriptor"),
    (PolicyCase, "routes_lead_to_nodes_that_there_are", "which are no nodes"),
    (PolicyCase, "claimed_packets_may_be_anything", "BufferError"),
    (PolicyCase, "timers_do_not_come_too_often", "within an hour"),
    (PolicyCase, "what_is_shown_has_its_types", "snake_case"),
    (PolicyCase, "verdicts_hold_for_a_time", "nan"),
    (AddressCase, "addresses_are_published_by_the_time_it_is_open", "was not called"),
    (AddressCase, "closing_leaves_nothing", "left behind"),
]

SYNC: list[tuple[type[Conformance], str, str]] = [
    (_tun(Loose), "options_have_defaults_and_cannot_be_changed", "not frozen"),
    (_tun(Secretive), "options_survive_the_example_configuration", "Secretive"),
    (_tun(Loose, "two\nlines"), "registration_is_complete", "not one line"),
    (TunCase, "hooks_take_what_they_are_told", "a defect"),
]


def _failure(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whatever kind
        call()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(("case", "test", "message"), ASYNC, ids=[test for _, test, _ in ASYNC])
def test_what_is_wrong_is_noticed(
    case: type[Conformance], test: str, message: str, tmp_path: Path
) -> None:
    assert message in _failure(lambda: anyio.run(getattr(case(), f"test_{test}"), tmp_path))


@pytest.mark.parametrize(("case", "test", "message"), SYNC, ids=[test for _, test, _ in SYNC])
def test_what_is_wrong_with_a_registration_is_noticed(
    case: type[Conformance], test: str, message: str
) -> None:
    assert message in _failure(getattr(case(), f"test_{test}"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import httpx", "imports ['httpx"),
        (
            "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass",
            "took",
        ),
        ("import nonesuch", "cannot be imported"),
    ],
)
def test_an_import_that_takes_long_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_plugin_module.py").write_text(source)

    class Case(TunConformance):
        def _module(self) -> str:
            return "slow_plugin_module"

    assert message in _failure(Case().test_import_is_quick_and_light)
    assert "slow_plugin_module" not in sys.modules


def test_a_handle_is_not_compared_by_value() -> None:
    """The kit, like the core, tells handles apart by identity."""
    handles = [PathHandle(None, "a://b", source=b"x", max_datagram=1) for _ in range(2)]  # type: ignore[arg-type]
    assert handles[0] != handles[1]
