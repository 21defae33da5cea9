"""What ``/metrics`` tells Prometheus: every metric, with its meaning, made of the status document.

Counters only grow while a process runs. What is told of a peer ends with it. Peers are named as in
the status document. Units are seconds and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tunmesh.admin.status import LinkStatus, PeerStatus, Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class MetricKind:
    """One metric.

    Attributes:
        name: Without the ``_total`` of counters.
        kind: ``counter``, ``gauge`` or ``info``.
        labels: Names of its labels.
        meaning: In one sentence.
        samples: Label values and a number for each series.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str
    samples: Callable[[Status], Samples]

    @property
    def shown_name(self) -> str:
        """As it stands in ``/metrics``."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _one(read: Callable[[Status], float]) -> Callable[[Status], Samples]:
    return lambda status: [((), read(status))]


def _each(read: Callable[[Status], Mapping[str, float]]) -> Callable[[Status], Samples]:
    return lambda status: [((name,), value) for name, value in read(status).items()]


def _carried(name: str) -> Callable[[Status], Samples]:
    return lambda status: [
        ((peer.name, transport), getattr(traffic, name))
        for peer in status.peers
        for transport, traffic in peer.carried.items()
    ]


def _links(read: Callable[[LinkStatus], float | None]) -> Callable[[Status], Samples]:
    def samples(status: Status) -> Samples:
        for peer in status.peers:
            for transport, link in _best(peer).items():
                value = read(link)
                if value is not None:
                    yield (peer.name, transport), value

    return samples


def _best(peer: PeerStatus) -> dict[str, LinkStatus]:
    """For each transport the link in use, or else the first that is up, or else the first."""
    found: dict[str, LinkStatus] = {}
    for link in sorted(peer.links, key=lambda link: (link.active, link.state == "up")):
        found[link.transport] = link
    return found


def _peer_states(status: Status) -> Samples:
    for state in ("up", "connecting", "down", "stale"):
        yield (state,), sum(peer.state == state for peer in status.peers)


def _handshakes(status: Status) -> Samples:
    """Those of messages that came; under no transport those that nobody answered. Zeros, too."""
    received = status.handshakes_received
    for transport in sorted({*status.transports, *received}):
        for result in status.handshakes:
            yield (transport, result), received.get(transport, {}).get(result, 0)
    unanswered = status.handshakes.get("unanswered", 0)
    known = sum(results.get("unanswered", 0) for results in received.values())
    yield ("", "unanswered"), unanswered - known


def _statistics(status: Status) -> Samples:
    for table in (status.transports, status.policies):
        for plugin, numbers in table.items():
            for name, number in numbers.items():
                yield (plugin, name), number


_PEER = ("peer", "transport")
_BYTES = "Bytes of the IP packets"

METRICS = (
    *(
        MetricKind(
            f"tunmesh_tun_{way}_{unit}",
            "counter",
            (),
            f"{meaning} {what}.",
            _one(lambda status, name=f"{way}_{unit}": getattr(status.device, name)),  # type: ignore[misc]
        )
        for way, what in (("rx", "that this host sent"), ("tx", "that were given to this host"))
        for unit, meaning in (("packets", "IP packets"), ("bytes", _BYTES))
    ),
    *(
        MetricKind(
            f"tunmesh_peer_{way}_{unit}", "counter", _PEER,
            f"{meaning} {what} a peer, by what carried them.", _carried(f"{way}_{unit}"),
        )
        for way, what in (("rx", "received from"), ("tx", "sent to"))
        for unit, meaning in (("packets", "IP packets"), ("bytes", _BYTES))
    ),
    MetricKind(
        "tunmesh_dropped_packets", "counter", ("reason",),
        "Packets and datagrams that were dropped.", _each(lambda status: status.drops),
    ),
    MetricKind(
        "tunmesh_handshakes", "counter", ("transport", "result"),
        "Handshakes by what became of them; without a transport those that nobody answered.",
        _handshakes,
    ),
    MetricKind("tunmesh_peers", "gauge", ("state",), "Other nodes that are known.", _peer_states),
    MetricKind(
        "tunmesh_peers_old_secret", "gauge", (),
        "Peers whose session another mesh secret than the first one made.",
        _one(lambda status: status.mesh.peers_old_secret),
    ),
    MetricKind(
        "tunmesh_peer_last_seen_seconds", "gauge", ("peer",),
        "Time since a node was last known alive.",
        lambda status: [
            ((peer.name,), peer.last_seen_s)
            for peer in status.peers
            if peer.last_seen_s is not None
        ],
    ),
    MetricKind(
        "tunmesh_link_rtt_seconds", "gauge", _PEER, "Smoothed round-trip time of a path.",
        _links(lambda link: None if link.rtt_ms is None else link.rtt_ms / 1000),
    ),
    MetricKind(
        "tunmesh_link_loss_ratio", "gauge", _PEER, "Share of the datagrams that get lost.",
        _links(lambda link: link.loss),
    ),
    MetricKind(
        "tunmesh_link_mtu_bytes", "gauge", _PEER, "Size of the largest datagram that passes.",
        _links(lambda link: link.mtu),
    ),
    MetricKind(
        "tunmesh_link_up", "gauge", _PEER, "Whether a path answers.",
        _links(lambda link: link.state == "up"),
    ),
    MetricKind(
        "tunmesh_link_active", "gauge", _PEER, "Whether a path carries the traffic.",
        _links(lambda link: link.active),
    ),
    MetricKind(
        "tunmesh_handshake_age_seconds", "gauge", ("peer",), "Age of the session's keys.",
        lambda status: [
            ((peer.name,), link.handshake_age_s)
            for peer in status.peers
            for link in peer.links
            if link.active and link.handshake_age_s is not None
        ],
    ),
    MetricKind(
        "tunmesh_table_entries", "gauge", ("table",),
        "Sizes of the node's tables; `staged` are packets that wait for a session.",
        _each(lambda status: status.tables),
    ),
    MetricKind("tunmesh_groups", "gauge", (), "Multicast groups.", _one(lambda s: len(s.groups))),
    *(
        MetricKind(
            f"tunmesh_group_{name}", "counter", ("group",), meaning,
            lambda status, name=name: [  # type: ignore[misc]
                ((group.group,), getattr(group, name)) for group in status.groups
            ],
        )
        for name, meaning in (
            ("packets", "Packets that this host sent to a multicast group."),
            ("replicas", "Copies of them, one for each member."),
            ("rate_limited", "Packets to a group that were more than its limit."),
        )
    ),
    MetricKind(
        "tunmesh_relayed_datagrams", "counter", (), "Datagrams carried between other nodes.",
        _one(lambda status: status.relay.get("forwarded", 0)),
    ),
    MetricKind(
        "tunmesh_relayed_bytes", "counter", (), "Their bytes.",
        _one(lambda status: status.relay.get("forwarded_bytes", 0)),
    ),
    MetricKind(
        "tunmesh_plugin_statistic", "gauge", ("plugin", "name"),
        "What transports and routing policies count; their documentation tells the meaning.",
        _statistics,
    ),
    MetricKind(
        "tunmesh_address_conflicts", "gauge", (), "Addresses that two nodes claim.",
        _one(lambda status: len(status.conflicts)),
    ),
    MetricKind(
        "tunmesh_refused_prefixes", "gauge", (), "Prefixes of others that are not accepted.",
        _one(lambda status: len(status.refused)),
    ),
    MetricKind(
        "tunmesh_warnings", "gauge", (), "What does not work as configured.",
        _one(lambda status: len(status.warnings)),
    ),
    MetricKind(
        "tunmesh_loop_lag_seconds", "gauge", (),
        "By how much something due was late at most, in the last minute.",
        _one(lambda status: status.node.loop_lag_s),
    ),
    MetricKind(
        "tunmesh_healthy", "gauge", (), "Whether every check of /health passes.",
        _one(lambda status: status.node.healthy),
    ),
)  # fmt: skip

#: What is told besides, of the node as such.
START_TIME = "tunmesh_start_time_seconds"
BUILD_INFO = "tunmesh_build_info"


class Metrics(Collector):
    """Answers ``/metrics``.

    Args:
        status: Makes the status document.
        labels: Put on every series of this node.
        started: Seconds since 1970 at which the process started.
    """

    def __init__(
        self, status: Callable[[], Status], labels: Mapping[str, str], started: float
    ) -> None:
        self._status = status
        self._labels = dict(labels)
        self._started = started
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The document and its media type, in a format that is asked for."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client asks for them."""
        status = self._status()
        names, values = tuple(self._labels), tuple(self._labels.values())
        for metric in METRICS:
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(metric.name, metric.meaning, labels=(*metric.labels, *names))
            for labels, value in metric.samples(status):
                family.add_metric((*labels, *values), float(value))
            yield family
        start = GaugeMetricFamily(START_TIME, "When the node started, since 1970.", labels=names)
        start.add_metric(values, self._started)
        yield start
        build = InfoMetricFamily(
            BUILD_INFO.removesuffix("_info"), "The version of the node.", labels=names
        )
        build.add_metric(values, {"version": status.version})
        yield build
