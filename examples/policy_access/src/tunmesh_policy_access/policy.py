"""Decides about flows by the rules, and lets the answers of allowed flows pass."""

from __future__ import annotations

import logging
from collections import OrderedDict

from tunmesh.plugin import Direction, Flow, PolicyContext, RoutingPolicy, SupportsVerdict
from tunmesh_policy_access.plugin import Options
from tunmesh_policy_access.rules import End, compile_rules

log = logging.getLogger(__name__)

#: Flows whose answers are expected; the one that was used longest ago is forgotten first.
_MOST_EXPECTED = 65_536
#: A denial is remembered for so many seconds. It changes only if names or addresses do.
_DENIED_FOR = 30.0


class AccessPolicy(RoutingPolicy, SupportsVerdict):
    """The access rules of one node.

    What a rule allows is remembered backwards, as the flow of its answers. A verdict holds for
    half of the time that answers are expected: as long as packets flow in either direction, it is
    asked for again in time, which moves the end of that time.
    """

    def __init__(self, context: PolicyContext) -> None:
        options: Options = context.options
        self._context = context
        self._rules = compile_rules(options)
        self._default = options.default == "allow"
        self._established = float(options.established)
        self._expected: OrderedDict[Flow, float] = OrderedDict()  # until when
        self._names: dict[str, str] = {}
        self._counters = {"allowed": 0, "answers": 0, "denied": 0}

    def verdict(self, flow: Flow, direction: Direction) -> tuple[bool, float]:
        now = self._context.now()
        if self._expected.get(flow, 0.0) > now:
            self._counters["answers"] += 1
            self._expect(flow, now)
        elif self._allows(flow, direction):
            self._counters["allowed"] += 1
        else:
            self._counters["denied"] += 1
            log.debug("flow denied direction=%s flow=%s", direction, flow)
            return False, _DENIED_FOR
        self._expect(flow.reversed(), now)
        return True, self._established / 2

    def attributes_changed(self) -> None:
        """Other nodes came or went; if that changes a name, what was decided is void."""
        names = dict(self._context.node_names())
        if names != self._names:
            self._names = names
            self._context.verdicts_changed()

    def statistics(self) -> dict[str, int]:
        return dict(self._counters)

    def _allows(self, flow: Flow, direction: Direction) -> bool:
        own = (self._context.node_id, self._context.node_name)
        name = self._names.get(flow.peer)
        other = (flow.peer,) if name is None else (flow.peer, name)
        senders, receivers = (own, other) if direction == "inside" else (other, own)
        source, destination = End(flow.source, senders), End(flow.destination, receivers)
        for rule in self._rules:
            if rule.fits(flow, source, destination):
                return rule.allow
        return self._default

    def _expect(self, flow: Flow, now: float) -> None:
        if len(self._expected) >= _MOST_EXPECTED and flow not in self._expected:
            self._expected.popitem(last=False)
        self._expected[flow] = now + self._established
        self._expected.move_to_end(flow)
