from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tunmesh import hookspecs
from tunmesh.config import ConfigErrors
from tunmesh.errors import (
    DuplicatePlugin,
    PluginApiError,
    PluginError,
    PluginHookError,
    PluginImportError,
    PluginNotFound,
    TransportError,
)
from tunmesh.interfaces.events import PeerInfo
from tunmesh.loader import PluginEntry, PluginErrors, PluginHost

Install = Callable[..., None]
MakeHost = Callable[..., PluginHost]

HEAD = "import msgspec\nfrom tunmesh.plugin import *\nfrom tunmesh.plugin import hookimpl\n"

OFFER = HEAD + "@hookimpl\ndef {hook}():\n    return [{kind}(summary='s', factory=object)]\n"

TUN = OFFER.format(hook="tunmesh_tun_backends", kind="TunRegistration")
ADDRESS = OFFER.format(hook="tunmesh_address_providers", kind="AddressRegistration")

TRANSPORTS = HEAD + "@hookimpl\ndef tunmesh_transports():\n"

#: Plugins that cannot be used: the source, the error, its state and what it says.
BROKEN: dict[str, tuple[str, type[PluginError], str, str]] = {
    "import": (
        "import nothing_of_that_name",
        PluginImportError,
        "import-failed",
        "import failed: ModuleNotFoundError: No module named 'nothing_of_that_name'",
    ),
    "assertion": (
        "assert 1 == 2, 'one\\ntwo'",
        PluginImportError,
        "import-failed",
        "import failed: AssertionError: one",
    ),
    "silent": ("assert False", PluginImportError, "import-failed", "import failed: AssertionError"),
    "syntax": ("def", PluginImportError, "import-failed", "import failed: SyntaxError: invalid"),
    "exit": (
        "import sys\nsys.exit(3)",
        PluginImportError,
        "import-failed",
        "import failed: it ended the program (sys.exit)",
    ),
    "typo": (
        HEAD + "@hookimpl\ndef tunmesh_peer_upp(peer): pass",
        PluginHookError,
        "rejected",
        "unknown hook tunmesh_peer_upp, did you mean tunmesh_peer_up?",
    ),
    "async": (
        HEAD + "@hookimpl\nasync def tunmesh_peer_up(peer): pass",
        PluginHookError,
        "rejected",
        "tunmesh_peer_up is async: hooks are ordinary functions",
    ),
    "argument": (
        HEAD + "@hookimpl\ndef tunmesh_peer_up(pear): pass",
        PluginHookError,
        "rejected",
        "Plugin 'argument' for hook 'tunmesh_peer_up': Argument(s) {'pear'} are declared",
    ),
    "wrapper": (
        HEAD + "@hookimpl(wrapper=True)\ndef tunmesh_peer_up(peer): yield",
        PluginHookError,
        "rejected",
        "tunmesh_peer_up is a wrapper",
    ),
    "unmarked": (
        HEAD + "def tunmesh_peer_up(peer): pass",
        PluginHookError,
        "rejected",
        "tunmesh_peer_up is not marked with @hookimpl",
    ),
    "empty": ("", PluginHookError, "rejected", "it implements no hook"),
    "raises": (
        TRANSPORTS + "    raise OSError('no luck')",
        PluginHookError,
        "rejected",
        "tunmesh_transports raised OSError: no luck",
    ),
    "exits": (
        TRANSPORTS + "    raise SystemExit",
        PluginHookError,
        "rejected",
        "tunmesh_transports raised SystemExit",
    ),
    "generator": (
        TRANSPORTS + "    yield 1 / 0",
        PluginHookError,
        "rejected",
        "tunmesh_transports raised ZeroDivisionError: division by zero",
    ),
    "none": (
        TRANSPORTS + "    return None",
        PluginHookError,
        "rejected",
        "tunmesh_transports must return an iterable of TransportRegistration, not NoneType",
    ),
    "garbage": (
        TRANSPORTS + "    return ['udp']",
        PluginHookError,
        "rejected",
        "tunmesh_transports must return an iterable of TransportRegistration, not of str",
    ),
    "role": (
        TRANSPORTS + "    return [TunRegistration(summary='s', factory=object)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports must return an iterable of TransportRegistration, not of TunReg",
    ),
    "two": (
        TRANSPORTS + "    return 2 * [TransportRegistration(summary='s', factory=object)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports returned 2 registrations: a plugin has one",
    ),
    "factory": (
        TRANSPORTS + "    return [TransportRegistration(summary='s', factory=1)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports: the factory is not callable",
    ),
    "options": (
        TRANSPORTS + "    return [TransportRegistration(summary='s', factory=object, options=int)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports: the options are not a msgspec.Struct",
    ),
    "default": (
        HEAD
        + "class O(msgspec.Struct):\n    port: int\n"
        + TRANSPORTS
        + "    return [TransportRegistration(summary='s', factory=object, options=O)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports: the option port has no default",
    ),
    "type": (
        HEAD
        + "class O(msgspec.Struct):\n    port: object = 1\n"
        + TRANSPORTS
        + "    return [TransportRegistration(summary='s', factory=object, options=O)]",
        PluginHookError,
        "rejected",
        "tunmesh_transports: the options cannot be used: TypeError: ",
    ),
}


def failure(host: PluginHost, name: str) -> PluginError:
    with pytest.raises(PluginErrors) as caught:
        host.load([name], explicit=True)
    (error,) = caught.value.errors
    return error


@pytest.mark.parametrize("name", BROKEN)
def test_each_kind_of_broken_plugin_has_a_verdict_of_one_line(
    install: Install, make_host: MakeHost, name: str
) -> None:
    source, kind, state, message = BROKEN[name]
    install(name, source, version="1.2")
    host = make_host()
    error = failure(host, name)
    assert type(error) is kind
    assert error.message.startswith(message)
    assert str(error) == f"plugin {name} (from dist-{name}): {error.message}"
    assert str(error).isprintable()
    assert host.entry(name).status_dict() == {
        "name": name,
        "distribution": f"dist-{name}",
        "version": "1.2",
        "roles": [],
        "state": state,
        "error": error.message,
    }
    assert host.registrations("transport") == []


def test_one_broken_plugin_hides_no_other(install: Install, make_host: MakeHost) -> None:
    for name, (source, *_) in BROKEN.items():
        install(name, source)
    install("good")
    host = make_host()
    names = [*BROKEN, "missing", "good"]
    with pytest.raises(PluginErrors) as caught:
        host.load(names, explicit=True)
    assert [error.name for error in caught.value.errors] == names[:-1]
    assert len(str(caught.value).splitlines()) == len(names) - 1
    assert [name for name, _ in host.registrations("transport")] == ["good"]
    assert host.entry("good").status_dict() == {
        "name": "good",
        "distribution": "dist-good",
        "version": "1.0",
        "roles": ["transport"],
        "state": "active",
        "error": None,
    }


def test_plugins_of_the_default_may_be_broken_or_missing(
    install: Install, make_host: MakeHost
) -> None:
    install("broken", "1 / 0")
    install("good")
    host = make_host()
    host.load(["missing", "broken", "good"], explicit=False)
    assert [(entry.name, entry.state, entry.error) for entry in host.entries] == [
        ("missing", "missing", None),
        ("broken", "import-failed", "import failed: ZeroDivisionError: division by zero"),
        ("good", "active", None),
    ]
    assert all(entry.enabled and not entry.explicit for entry in host.entries)


def test_a_named_plugin_that_is_missing(install: Install, make_host: MakeHost) -> None:
    install("good")
    error = failure(make_host(), "goood")
    assert isinstance(error, PluginNotFound)
    assert str(error) == "plugin goood: is not installed, did you mean good?"


def test_a_name_in_two_distributions_is_never_imported(
    install: Install, make_host: MakeHost
) -> None:
    install("a", distribution="one", version="1.0")
    install("b")
    install("a", distribution="two", version="2.0")
    host = make_host()
    error = failure(host, "a")
    assert isinstance(error, DuplicatePlugin)
    assert sorted(error.message.removesuffix(" both offer it: uninstall one").split(" and ")) == [
        "one 1.0",
        "two 2.0",
    ]
    assert host.entry("a").state == "duplicate"
    assert "fixture_one" not in sys.modules
    assert "fixture_two" not in sys.modules


def test_another_version_of_the_api_is_never_imported(
    install: Install, make_host: MakeHost
) -> None:
    install("a", group="tunmesh.plugins.v2")
    host = make_host()
    assert host.entry("a").state == "wrong-api"
    error = failure(host, "a")
    assert isinstance(error, PluginApiError)
    assert error.message.startswith("written for tunmesh.plugins.v2, but tunmesh ")
    assert "fixture_dist_a" not in sys.modules


def test_what_is_not_selected_is_never_imported(install: Install, make_host: MakeHost) -> None:
    install("a")
    install("b")
    host = make_host()
    host.load(["a"], explicit=True)
    assert "fixture_dist_a" in sys.modules
    assert "fixture_dist_b" not in sys.modules
    assert host.entries[1] == PluginEntry("b", "dist-b", "1.0")
    assert host.entries[1].state == "available"


def test_a_keyboard_interrupt_at_import_is_not_swallowed(
    install: Install, make_host: MakeHost
) -> None:
    install("a", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        make_host().load(["a"], explicit=True)


def test_two_names_of_one_object(install: Install, make_host: MakeHost) -> None:
    install("a", distribution="one")
    install("b", distribution="two", target="fixture_one")
    host = make_host()
    host.load(["a", "b"], explicit=False)
    assert sorted(entry.state for entry in host.entries) == ["active", "rejected"]


def test_an_entry_point_may_be_an_object_of_a_module(install: Install, make_host: MakeHost) -> None:
    source = f"""{HEAD}
class Plugin:
    @hookimpl
    def tunmesh_transports(self):
        return [TransportRegistration(summary="s", factory=object)]
plugin = Plugin()
"""
    install("a", source, target="fixture_dist_a:plugin")
    host = make_host()
    host.load(["a"], explicit=True)
    assert host.entry("a").roles == ("transport",)


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "a", "b"]])
def test_first_named_first_asked(install: Install, make_host: MakeHost, order: list[str]) -> None:
    for name in "abc":
        install(name)
    host = make_host()
    host.load([*order, order[0]], explicit=True)
    assert [name for name, _ in host.registrations("transport")] == order
    assert [found.plugin_name for found in host.implementations("tunmesh_transports")] == order
    assert [entry.name for entry in host.entries] == order


def test_empty_roles_are_filled(install: Install, make_host: MakeHost) -> None:
    install("tun_linux", TUN)
    install("ifaddr", ADDRESS)
    install("udp")
    host = make_host()
    host.load(["udp"], explicit=True)
    assert [name for name, _ in host.registrations("tun")] == ["tun_linux"]
    assert [name for name, _ in host.registrations("address")] == ["ifaddr"]
    assert host.entry("ifaddr").enabled
    assert not host.entry("ifaddr").explicit


def test_roles_that_are_filled_are_left_alone(install: Install, make_host: MakeHost) -> None:
    install("tun_linux", "1 / 0")
    install("my_tun", TUN)
    install("ifaddr", "1 / 0")
    host = make_host()
    host.load(["my_tun"], explicit=True, fill=False)
    assert not host.entry("ifaddr").enabled
    assert not host.entry("tun_linux").enabled
    assert not [name for name in sys.modules if name.startswith("fixture_dist_tun_linux")]


def test_a_failing_filler_stops_the_node(install: Install, make_host: MakeHost) -> None:
    install("tun_linux", "1 / 0")
    install("udp")
    with pytest.raises(PluginErrors, match=r"plugin tun_linux .* import failed"):
        make_host().load(["udp"], explicit=False)


def test_roles_that_must_be_filled(install: Install, make_host: MakeHost) -> None:
    install("tun_linux", TUN)
    install("udp", "1 / 0")
    host = make_host()
    host.load(["udp", "https", "tun_linux"], explicit=False)
    host.require("tun")
    with pytest.raises(ConfigErrors) as caught:
        host.require("tun", "transport")
    assert caught.value.problems == [
        (
            "plugins.enabled: no plugin fills the role transport (udp: import failed: "
            "ZeroDivisionError: division by zero; "
            "https: is not installed, install tunmesh-transport-https)"
        )
    ]


def test_a_failure_at_the_start_is_noted(install: Install, make_host: MakeHost) -> None:
    install("a")
    host = make_host()
    host.load(["a"], explicit=True)
    host.failed("a", TransportError("address in use"))
    assert (host.entry("a").state, host.entry("a").error) == ("failed", "address in use")
    host.failed("a", OSError("boom"))
    assert host.entry("a").error == "OSError: boom"


def test_what_is_offered_and_hooked(install: Install, make_host: MakeHost) -> None:
    install("a", TUN + "@hookimpl\ndef tunmesh_peer_up(): pass\n")
    install("b")
    host = make_host()
    host.load(["a"], explicit=True)
    assert host.hooks_of("a") == ("tunmesh_tun_backends", "tunmesh_peer_up")
    assert list(host.registrations_of("a")) == ["tun"]
    assert host.hooks_of("b") == ()
    assert host.registrations_of("b") == {}


def test_a_hook_that_offers_nothing_is_no_role(install: Install, make_host: MakeHost) -> None:
    install("a", TRANSPORTS + "    return []")
    host = make_host()
    host.load(["a"], explicit=True)
    assert host.entry("a").roles == ()
    assert host.entry("a").state == "active"


@pytest.mark.parametrize(
    ("mark", "takes"), [("warn_on_impl", ""), ("warn_on_impl_args", "peer, reason")]
)
def test_what_a_later_version_will_not_have_warns_once(
    install: Install,
    make_host: MakeHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mark: str,
    takes: str,
) -> None:
    warning = DeprecationWarning("goes with 0.2: use tunmesh_peer_gone")
    specification = vars(hookspecs.tunmesh_peer_down)[f"{hookspecs.PROJECT}_spec"]
    monkeypatch.setitem(
        specification, mark, warning if mark == "warn_on_impl" else {"reason": warning}
    )
    source = "from tunmesh.plugin import hookimpl\n@hookimpl\ndef tunmesh_peer_down({}): pass\n"
    install("old", source.format(takes))
    install("new", source.format("peer" if takes else "").replace("_down", "_up"))
    host = make_host()
    host.load(["old", "new"], explicit=True)
    assert host.entry("old").warnings == [str(warning)]
    assert host.entry("new").warnings == []
    assert [record.getMessage() for record in caplog.records] == [
        f"plugin uses what will go plugin=old warning={warning}"
    ]
    host.notify_peer_down(PeerInfo("1", "a", ()), "gone")
    assert len(caplog.records) == 1
