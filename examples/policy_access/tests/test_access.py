"""The rules: what fits, which answers pass, what is no configuration."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tunmesh.errors import ConfigError
from tunmesh.plugin import Duration, Flow
from tunmesh.testing import FakePolicyContext
from tunmesh.testing.conformance import PolicyConformance
from tunmesh_policy_access import policy as module
from tunmesh_policy_access.plugin import Options, RuleOptions, tunmesh_routing_policies
from tunmesh_policy_access.policy import AccessPolicy

PEER, OTHER = "a" * 32, "b" * 32
TCP, UDP, ICMP = 6, 17, 1


class TestAccess(PolicyConformance):
    plugin = "access"

    def settings(self, folder: Path) -> Mapping[str, Any]:
        rule = {"action": "allow", "source": ["@some"], "protocol": "tcp", "ports": ["22", "80-90"]}
        return {"groups": {"some": ["10.42.0.0/24", "there"]}, "rules": [rule]}


def rule(action: Any, **fields: Any) -> RuleOptions:
    return RuleOptions(action, **fields)


def policy(*rules: RuleOptions, **fields: Any) -> tuple[AccessPolicy, FakePolicyContext]:
    context = FakePolicyContext(Options(rules=rules, **fields), node_name="here")
    context.other_names = {PEER: "there", OTHER: "other"}
    made = AccessPolicy(context)
    made.attributes_changed()
    return made, context


def flow(
    port: int = 80, *, protocol: int = TCP, peer: str = PEER, source: str = "10.42.0.2", **more: Any
) -> Flow:
    own = 5000 if protocol in {TCP, UDP} else 0
    destination = ip_address("10.42.0.1")
    return Flow(ip_address(source), destination, protocol, own, port, peer=peer, **more)


def allowed(made: AccessPolicy, asked: Flow, direction: Any = "outside") -> bool:
    return made.verdict(asked, direction)[0]


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_what_no_rule_fits_takes_the_default(default: Any) -> None:
    made, _ = policy(default=default)
    assert allowed(made, flow()) is (default == "allow")


def test_the_first_rule_that_fits_decides() -> None:
    made, _ = policy(
        rule("deny", protocol="tcp", ports=("22",)),
        rule("allow", protocol="tcp", ports=("20-30", "80")),
    )
    assert [allowed(made, flow(port)) for port in (22, 20, 30, 31, 80)] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert not allowed(made, flow(80, protocol=UDP))


@pytest.mark.parametrize(
    "source",
    [["there"], [PEER], ["10.42.0.2"], ["10.42.0.0/24"], ["@some"], ["fd42::/48", "there"]],
)
def test_who_sends(source: list[str]) -> None:
    made, _ = policy(
        rule("allow", source=tuple(source)), groups={"some": ("else", "there"), "more": ()}
    )
    assert allowed(made, flow())
    assert not allowed(made, flow(peer=OTHER, source="10.43.0.2"))


def test_each_direction_has_this_node_at_its_own_end() -> None:
    made, _ = policy(rule("allow", source=("here",)), rule("allow", destination=("there",)))
    assert allowed(made, flow(1), "inside")
    assert not allowed(made, flow(2), "outside")
    made, _ = policy(rule("allow", destination=("here",)))
    assert allowed(made, flow(3), "outside")
    assert not allowed(made, flow(4), "inside")


def test_answers_pass_as_long_as_packets_flow() -> None:
    made, context = policy(rule("allow", source=("there",)), established=Duration("60s"))
    asked = flow()
    assert not allowed(made, asked.reversed(), "inside")
    assert made.verdict(asked, "outside") == (True, 30.0)
    for _ in range(10):  # only answers: the one that asked hears them
        context.clock.run_until(context.now() + 30.0)
        assert allowed(made, asked.reversed(), "inside")
    context.clock.run_until(context.now() + 61.0)
    assert not allowed(made, asked.reversed(), "inside")
    assert made.statistics() == {"allowed": 1, "answers": 10, "denied": 2}


def test_an_answer_comes_from_the_same_peer_and_port() -> None:
    made, _ = policy(rule("allow", source=("there",)))
    assert allowed(made, flow())
    assert not allowed(made, flow(81).reversed(), "inside")
    assert not allowed(made, flow(peer=OTHER).reversed(), "inside")


def test_fragments_fit_no_rule_that_allows_ports_and_each_that_denies_some() -> None:
    fragment = flow(0, fragment=True)
    made, _ = policy(rule("allow", protocol="tcp", ports=("0-65535",)))
    assert not allowed(made, fragment)
    made, _ = policy(rule("deny", protocol="tcp", ports=("22",)), rule("allow"))
    assert not allowed(made, fragment)
    assert allowed(made, flow(0, fragment=True, protocol=UDP))


def test_what_is_expected_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_EXPECTED", 10)
    made, _ = policy(rule("allow", source=("there",)))
    for port in range(1, 30):
        assert allowed(made, flow(port))
    assert len(made._expected) == 10
    assert allowed(made, flow(29).reversed(), "inside")
    assert not allowed(made, flow(1).reversed(), "inside")


def test_a_name_that_changes_hands_voids_what_was_decided() -> None:
    made, context = policy(rule("allow", source=("there",)))
    assert context.verdict_changes == 1
    made.attributes_changed()
    assert context.verdict_changes == 1
    context.other_names = {PEER: "elsewhere", OTHER: "there"}
    made.attributes_changed()
    assert context.verdict_changes == 2
    assert not allowed(made, flow())
    assert allowed(made, flow(peer=OTHER))


@pytest.mark.parametrize(
    ("rule_", "message"),
    [
        (rule("allow", source=("10.42.0.1/24",)), r"rules\[0\].source: .*host bits"),
        (rule("allow", destination=("@none",)), r'rules\[0\].destination: .* "@none"'),
        (rule("allow", destination=("@empty",)), r"is empty"),
        (rule("allow", protocol="tcpp"), r"rules\[0\].protocol"),
        (rule("allow", protocol="256"), r"rules\[0\].protocol"),
        (rule("allow", ports=("80",)), r"rules\[0\].ports: .*protocol"),
        (rule("allow", protocol="icmp", ports=("80",)), r"rules\[0\].ports"),
        (rule("allow", protocol="tcp", ports=("80-79",)), r"rules\[0\].ports"),
        (rule("allow", protocol="tcp", ports=("65536",)), r"rules\[0\].ports"),
        (rule("allow", protocol="tcp", ports=("http",)), r"rules\[0\].ports"),
    ],
)
def test_rules_that_make_no_sense_are_named(rule_: RuleOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(rules=(rule_,), groups={"empty": ()})


def test_groups_and_times_that_make_no_sense_are_named() -> None:
    with pytest.raises(ConfigError, match=r"groups\.bad"):
        Options(groups={"bad": ("10.42.0.300",)})
    with pytest.raises(ConfigError, match="established"):
        Options(established=Duration(0))


def test_the_registration() -> None:
    (registration,) = tunmesh_routing_policies()
    assert msgspec.structs.fields(registration.options)
    assert isinstance(registration.factory(FakePolicyContext(Options())), AccessPolicy)
