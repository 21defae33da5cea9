"""The routing policy: listens to this host's reports, asks for them, tells the mesh.

::

    device ── reports ──► GroupTable ──► attribute in the own record ──► everybody else
       ▲                      │                                              │
       └── queries ◄── Querier└───────────► routes ◄──── their attributes ◄──┘

No task and no socket: it acts when a claimed packet comes or a deadline passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tunmesh.plugin import (
    BadPacket,
    GroupMember,
    PolicyContext,
    Route,
    RoutingPolicy,
    SupportsReload,
)
from tunmesh_multicast_igmp import igmp, mld
from tunmesh_multicast_igmp.attribute import (
    NOTHING,
    Membership,
    decode_membership_untrusted,
    encode_membership,
)
from tunmesh_multicast_igmp.compilation import Surroundings, compile_routes
from tunmesh_multicast_igmp.messages import Address, Report
from tunmesh_multicast_igmp.options import Options, prefixes
from tunmesh_multicast_igmp.querier import Querier, Timing
from tunmesh_multicast_igmp.rules import EVERY_GROUP, Rules
from tunmesh_multicast_igmp.state import Filter, GroupTable

#: Changes of membership are published no more often than this: a record is signed and reaches
#: every node each time.
_PUBLISH_INTERVAL = 0.1
#: Router solicitations and advertisements: there is no IPv6 router on this link, and the
#: solicitations of every node would be noise for all others.
_ROUTER_DISCOVERY = frozenset({133, 134})
_NEVER = float("inf")


class IgmpPolicy(RoutingPolicy, SupportsReload):
    """Multicast learned from IGMP and MLD.

    Args:
        context: As any policy's.
    """

    claims = frozenset({igmp.PROTOCOL})
    claims_icmpv6 = frozenset({mld.QUERY, mld.REPORT1, mld.DONE, mld.REPORT2}) | _ROUTER_DISCOVERY

    def __init__(self, context: PolicyContext) -> None:
        options: Options = context.options
        self._context = context
        self._use(options)
        self._table = GroupTable(
            self._timing.group_membership_interval, most_groups=options.max_groups
        )
        self._querier = Querier(self._timing, context.now())
        # Hosts take MLD queries from link-local addresses only, and not from their own.
        self._address = IPv6Address(b"\xfe\x80" + bytes(6) + bytes.fromhex(context.node_id)[:8])
        self._known: Mapping[Address, Filter] | None = None
        self._unpublished = 0
        self._publish_at = _NEVER
        self._published_at = -_NEVER
        #: What others publish, read: kept as long as it stays the same.
        self._others: dict[str, tuple[bytes, Membership]] = {}
        self._counters: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        # The kernel has a route for ff00::/8 on every device with IPv6 already.
        self._context.set_device_routes([EVERY_GROUP[4]])
        self._changed(self._context.now())
        self.handle_timer(self._context.now())
        return self

    # ------------------------------------------------------------------ options

    def _use(self, options: Options) -> None:
        self._timing = Timing(
            options.robustness,
            float(options.query_interval),
            float(options.query_response_interval),
        )
        self._rules = Rules(prefixes("mode", options.mode), prefixes("scope", options.scope))
        self._limit = options.rate_limit
        self._router_port = options.router_ports

    def reload(self, options: Options) -> None:
        now = self._context.now()
        self._use(options)
        self._table.set_limits(self._timing.group_membership_interval, options.max_groups)
        self._querier.set_timing(self._timing, now)
        self._context.routes_changed()
        self._publish(now)
        self._wake()

    # ---------------------------------------------------------------- this host

    def claimed(self, packet: memoryview) -> None:
        try:
            message = (
                igmp.decode_igmp_untrusted(packet)
                if packet[0] >> 4 == 4
                else mld.decode_mld_untrusted(packet)
            )
        except BadPacket:
            self._counters["malformed"] += 1
            raise
        if not isinstance(message, Report):
            # Router discovery, routing protocols, or another querier on this host, whose queries
            # have reached the host without us.
            self._counters["ignored"] += 1
        elif not self._is_ours(message.source):
            self._counters["foreign_reports"] += 1
        else:
            self._counters["reports"] += 1
            self._report(message)

    def _is_ours(self, source: Address) -> bool:
        """Whether a report can be this host's: one without address has the unspecified source.

        MLD messages have link-local sources, which the decoder has seen to; the device's own need
        not be among the addresses of the node.
        """
        if source.version == 6 or source.is_unspecified:
            return True
        return any(source == interface.ip for interface in self._context.addresses())

    def _report(self, report: Report) -> None:
        now = self._context.now()
        doubtful = [record.group for record in report.records if self._table.receive(record, now)]
        self._changed(now)
        # What was left is left at once. If that was a mistake, the answer to this mends it.
        for group in doubtful[:64]:
            self._ask(group)
        self._wake()

    def _ask(self, group: Address) -> None:
        self._counters["queries"] += 1
        timing = self._timing
        if isinstance(group, IPv4Address):
            query = igmp.encode_igmp_query(
                response=timing.query_response_interval,
                interval=timing.query_interval,
                robustness=timing.robustness,
                group=group if int(group) else None,
            )
        else:
            query = mld.encode_mld_query(
                self._address,
                response=timing.query_response_interval,
                interval=timing.query_interval,
                robustness=timing.robustness,
                group=group if int(group) else None,
            )
        self._context.write_packet(query)

    def _changed(self, now: float) -> None:
        """Publish what this host takes, if it has changed."""
        filters = self._table.filters()
        if filters is self._known:
            return
        self._known = filters
        self._context.routes_changed()
        self._publish_at = max(now, self._published_at + _PUBLISH_INTERVAL)
        if self._publish_at <= now:
            self._publish(now)

    def _publish(self, now: float) -> None:
        self._publish_at = _NEVER
        self._published_at = now
        attribute, self._unpublished = encode_membership(self._own())
        self._context.set_attribute(attribute)

    def _own(self) -> Membership:
        return Membership(self._table.filters(), self._router_port)

    # --------------------------------------------------------------------- time

    def handle_timer(self, now: float) -> None:
        if self._querier.due(now):
            self._ask(IPv4Address(0))
            self._ask(IPv6Address(0))
        self._table.handle_timer(now)
        self._changed(now)
        if now >= self._publish_at:
            self._publish(now)
        self._wake()

    def _wake(self) -> None:
        self._context.wake_at(
            min(self._querier.next_deadline(), self._table.next_deadline(), self._publish_at)
        )

    # ----------------------------------------------------------------- the mesh

    def routes(self) -> Iterable[Route]:
        surroundings = Surroundings(
            self._context.node_id,
            self._context.addresses(),
            self._context.nodes(),
            self._memberships(),
        )
        return compile_routes(surroundings, self._rules, limit=self._limit, name=self._context.name)

    def _memberships(self) -> Mapping[str, Membership]:
        """What every node takes, by its id."""
        known, self._others = self._others, {}
        for node, attribute in self._context.attributes().items():
            entry = known.get(node)
            if entry is None or entry[0] != attribute:
                try:
                    entry = attribute, decode_membership_untrusted(attribute)
                except BadPacket:
                    self._counters["bad_attributes"] += 1
                    entry = attribute, NOTHING
            self._others[node] = entry
        memberships = {node: membership for node, (_, membership) in self._others.items()}
        memberships[self._context.node_id] = self._own()
        return memberships

    def group_members(self) -> Iterable[GroupMember]:
        for node, membership in self._memberships().items():
            for group, wanted in membership.groups.items():
                sources = tuple(sorted(wanted.sources))
                yield GroupMember(group, node, wanted.exclude, sources)

    def statistics(self) -> dict[str, int]:
        memberships = self._memberships().values()
        names = "reports", "queries", "ignored", "malformed", "foreign_reports", "bad_attributes"
        return {
            "groups": len({group for item in memberships for group in item.groups}),
            "own_groups": len(self._table),
            "refused": self._table.refused,
            "unpublished": self._unpublished,
            **{name: self._counters[name] for name in names},
        }
