"""The typed options of the core: what may stand in a configuration, its defaults and meanings.

`tunmesh config example`, `show` and `schema` are generated from these types. In the annotation
of a field a `msgspec.Meta` holds its description and bounds; these keys of its ``extra`` are
understood, in the options of plugins too:

``required``
    Must be set before a node can run.
``path``
    Names a file; resolved against the directory of the configuration.
``secret``
    Masked when shown.
``verbatim``
    ``${NAME}`` is left alone.
``commands``
    Are run: taken only from a file that root or this user owns, and nobody else can write.
``example``
    Of a table of tables: the name of one in the example.
``applies``
    What a changed value takes: ``live``, ``reconnect`` or ``restart``. For all keys of a table
    together it may be a class variable of the Struct; else it is ``restart``.

A Struct with a class variable ``shorthand`` may be written as the bare value of that field.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from tunmesh.config.applies import Applies
from tunmesh.config.problems import Origin
from tunmesh.durations import Duration
from tunmesh.interfaces.tun import Network

#: Plugins that are selected when nothing else is said.
DEFAULT_PLUGINS = ("tun_linux", "ifaddr", "udp", "https", "igmp")

#: Prefixes that other nodes may announce, unless the configuration says otherwise.
DEFAULT_ACCEPT = tuple(
    ipaddress.ip_network(prefix)
    for prefix in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


class MeshOptions(msgspec.Struct, frozen=True):
    """The mesh that this node belongs to; the same on all of its nodes."""

    applies: ClassVar[Applies] = "restart"

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description="Separates meshes that share a secret.",
        ),
    ] = "tunmesh"
    cipher: Annotated[
        Literal["auto", "aes256gcm", "chacha20poly1305"],
        Meta(
            description='"auto": AES on processors that have instructions for it.',
            extra={"applies": "reconnect"},
        ),
    ] = "auto"
    networks: Annotated[
        tuple[Network, ...],
        Meta(
            description='The overlay, as ["10.42.0.0/16", "fd42::/48"]: routed into the tunnel.',
            extra={"required": True},
        ),
    ] = ()
    secret_file: Annotated[
        str,
        Meta(
            description=(
                "File of the mesh secret, one a line: the first is used, all are accepted. "
                "Readable by its owner only; `tunmesh secret generate` prints a new secret."
            ),
            extra={"path": True, "applies": "live"},
        ),
    ] = ""
    secret: Annotated[
        str,
        Meta(
            description="The secret itself, 32 characters or more, or else $TUNMESH_SECRET.",
            extra={"secret": True, "applies": "live"},
        ),
    ] = ""
    eager_peers: Annotated[
        int,
        Meta(
            ge=1,
            description="In meshes up to this size every node keeps a session with every other.",
            extra={"applies": "live"},
        ),
    ] = 64


class Subnet(msgspec.Struct, frozen=True):
    """A prefix behind this node."""

    applies: ClassVar[Applies] = "live"

    shorthand: ClassVar[str] = "prefix"

    prefix: Annotated[Network, Meta(description="The prefix.")]
    metric: Annotated[
        int,
        Meta(
            ge=0,
            le=2**16 - 1,
            description="Of several nodes with one prefix, the smallest metric is used.",
        ),
    ] = 0


class NodeOptions(msgspec.Struct, frozen=True):
    """This node."""

    applies: ClassVar[Applies] = "restart"

    name: Annotated[
        str,
        Meta(description="Lower case, digits and dashes; the host name if empty."),
    ] = ""
    addresses: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                'Its addresses in the mesh, as ["10.42.1.1/24", "fd42:0:0:1::1/64"]; '
                "the prefix is the local subnet. "
                '"auto" takes a free address of each network, "auto/24" with that prefix for IPv4.'
            ),
            extra={"applies": "live"},
        ),
    ] = ()
    subnets: Annotated[
        tuple[Subnet, ...],
        Meta(
            description=(
                "Prefixes behind this node, routed to it by the others: "
                '"192.168.7.0/24" or {prefix = "192.168.7.0/24", metric = 10}.'
            ),
            extra={"applies": "live"},
        ),
    ] = ()
    advertise: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                'Endpoints to tell the others, as ["udp://203.0.113.7:4567"]; '
                "found from the listeners if empty."
            ),
            extra={"applies": "live"},
        ),
    ] = ()
    relay: Annotated[
        bool,
        Meta(
            description=(
                "Carry datagrams between nodes that cannot reach each other; "
                "they stay sealed end to end."
            ),
            extra={"applies": "live"},
        ),
    ] = True
    state_dir: Annotated[
        str,
        Meta(
            description="Directory of the persistent identity; a fresh one for each run if empty.",
            extra={"path": True},
        ),
    ] = ""
    user: Annotated[
        str,
        Meta(
            description=(
                "User, by name or number, that the node turns into once everything is open, "
                "giving up every privilege; empty to stay what it is."
            )
        ),
    ] = ""


class PluginsOptions(msgspec.Struct, frozen=True):
    """Plugins. Each has its own table, [plugins.NAME]."""

    applies: ClassVar[Applies] = "restart"

    enabled: Annotated[
        tuple[str, ...],
        Meta(description="The plugins to use; the order is preference."),
    ] = DEFAULT_PLUGINS
    #: The plugins' tables, unconverted until the plugins' options types are known.
    tables: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class BootstrapOptions(msgspec.Struct, frozen=True):
    """A group of nodes to join the mesh by; any number of groups, each with a name of its own."""

    applies: ClassVar[Applies] = "live"

    urls: Annotated[
        tuple[str, ...],
        Meta(description='As ["udp://198.51.100.1:4567"].'),
    ] = ()
    retries: Annotated[
        int,
        Meta(ge=-1, description="Further rounds when no node answers; -1: for ever."),
    ] = -1
    interval: Annotated[Duration, Meta(description="Between two rounds.")] = Duration("5s")


class RoutingOptions(msgspec.Struct, frozen=True):
    """Routing."""

    applies: ClassVar[Applies] = "live"

    accept_subnets: Annotated[
        tuple[Network, ...],
        Meta(
            description=(
                "Prefixes that other nodes may announce subnets of; "
                'a default route only if "0.0.0.0/0" or "::/0" is listed.'
            )
        ),
    ] = DEFAULT_ACCEPT
    broadcast: Annotated[
        bool,
        Meta(description="Carry broadcasts to the local subnet, the mesh and 255.255.255.255."),
    ] = True
    broadcast_rate: Annotated[
        int,
        Meta(
            ge=0,
            description="Broadcasts a second that this node sends at most; 0 for any number.",
        ),
    ] = 1000


class TimingOptions(msgspec.Struct, frozen=True):
    """Intervals and thresholds."""

    applies: ClassVar[Applies] = "live"

    rekey_after: Annotated[Duration, Meta(description="New session keys at this age.")] = Duration(
        "120s"
    )
    reject_after: Annotated[Duration, Meta(description="Session keys are void at this age.")] = (
        Duration("180s")
    )
    keepalive: Annotated[
        Duration, Meta(description="Sent to a peer to which nothing else was sent for so long.")
    ] = Duration("2s")
    path_probe: Annotated[Duration, Meta(description="Between probes of a path in use.")] = (
        Duration("400ms")
    )
    standby_probe: Annotated[Duration, Meta(description="Between probes of other paths.")] = (
        Duration("10s")
    )
    reregister_local: Annotated[
        Duration, Meta(description="Between digests to nodes of the local subnet.")
    ] = Duration("5s")
    reregister_mesh: Annotated[Duration, Meta(description="Between digests to other nodes.")] = (
        Duration("30s")
    )
    stale_local: Annotated[
        Duration, Meta(description="A node of the local subnet is stale after so much silence.")
    ] = Duration("30s")
    stale_mesh: Annotated[
        Duration, Meta(description="Another node is stale after so much silence.")
    ] = Duration("120s")


class LogOptions(msgspec.Struct, frozen=True):
    """Logging, to standard error."""

    applies: ClassVar[Applies] = "live"

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level to log.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="One line, or one JSON object, an event.")
    ] = "text"


class AdminOptions(msgspec.Struct, frozen=True):
    """How the node is looked at: the socket that `tunmesh status` asks, and HTTP."""

    applies: ClassVar[Applies] = "restart"

    socket: Annotated[
        str,
        Meta(
            description="Path; /run/tunmesh/<device>.sock if empty.",
            extra={"path": True},
        ),
    ] = ""
    listen: Annotated[
        str,
        Meta(
            description=(
                'HTTP for /health, /ready, /metrics and /api/v1/status: as "127.0.0.1:9110" '
                'or "[::1]:9110"; nowhere if empty. It is not encrypted and asks nobody who he is.'
            )
        ),
    ] = ""
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Names by which it may be asked, besides IP addresses and localhost: a web page "
                "must not read it under a name of its own."
            )
        ),
    ] = ()
    startup_grace: Annotated[
        Duration,
        Meta(
            description=(
                "After the start, /health does not mind for so long that no other node is reached, "
                "so that a first node gets where others find it."
            ),
            extra={"applies": "live"},
        ),
    ] = Duration("0s")
    labels: Annotated[
        dict[str, str],
        Meta(description='Put on every metric, as {region = "eu"}.'),
    ] = {}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of a tunmesh node."""

    mesh: MeshOptions = MeshOptions()
    node: NodeOptions = NodeOptions()
    plugins: PluginsOptions = PluginsOptions()
    bootstrap: Annotated[
        dict[str, BootstrapOptions],
        Meta(extra={"example": "seeds"}),
    ] = {}
    routing: RoutingOptions = RoutingOptions()
    timing: TimingOptions = TimingOptions()
    log: LogOptions = LogOptions()
    admin: AdminOptions = AdminOptions()


class Config(Document, frozen=True, kw_only=True):
    """A configuration that was read and found valid.

    Attributes:
        origin: Where its values came from.
        explicit_plugins: Whether the plugins were named, rather than taken from the default.
        from_environment: Dotted keys whose values hold something of the environment.
    """

    origin: Origin = Origin()
    explicit_plugins: bool = False
    from_environment: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """The configuration file as it was named, empty if there is none."""
        return self.origin.path
