"""From the configuration of the predecessor, TunMesh 0.7 (YAML 1.1), to TOML for a node.

What has a counterpart is carried over; of everything else it is said why not. The secret is not
copied, so that the result may be shown to anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tunmesh.config.problems import join_key, suggestion
from tunmesh.config.toml import toml_value
from tunmesh.errors import ConfigError

#: Turns a value into that of the new key. Raises TypeError or ValueError.
Convert: TypeAlias = Callable[[Any], Any]

_ROOT = "tun_mesh"
_VERSION = "1.1"
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_TIME = re.compile(
    r"(?P<low>[0-9]+(?:\.[0-9]+)?)(?:\.\.(?P<high>[0-9]+(?:\.[0-9]+)?))?(?P<unit>[smhd]?)"
)
_GROUPS = "clustering.bootstrap_groups"
_RETRY_INTERVAL = "process.timing.registrations.bootstrap_retry_interval"


@dataclass
class Imported:
    """The result.

    Attributes:
        tables: The new configuration.
        notes: What could not be carried over, or means something else now; one line each.
    """

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The new configuration as TOML, the notes as comments in front."""
        lines = ["# From the configuration of TunMesh 0.7."]
        lines += [f"# {note}" for note in self.notes]
        for name, table in self.tables.items():
            lines += ["", f"[{name}]"]
            lines += [f"{join_key('', key)} = {toml_value(value)}" for key, value in table.items()]
        return "\n".join(lines) + "\n"

    def set(self, table: str, key: str, value: Any) -> None:  # noqa: ANN401  # any TOML value
        """Set a key of the new configuration."""
        self.tables.setdefault(table, {})[key] = value


def _text(value: Any) -> str:  # noqa: ANN401  # what YAML had
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _number(value: Any) -> int:  # noqa: ANN401  # what YAML had
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _flag(value: Any) -> bool:  # noqa: ANN401  # what YAML had
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _time(value: Any) -> float | int | str:  # noqa: ANN401  # what YAML had
    """Seconds, or a text with a unit, or a range of which both ends get the unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = _TIME.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"expected a time, got {value!r}")
    unit = match["unit"] or "s"
    return "..".join(f"{part}{unit}" for part in (match["low"], match["high"]) if part)


def _level(value: Any) -> str:  # noqa: ANN401  # what YAML had
    level = _text(value)
    return "warning" if level == "warn" else level


#: By old key: the new table and key, and how the value is converted.
_CARRIED: dict[str, tuple[str, str, Convert]] = {
    "networking.ipv4.network_cidr": ("mesh", "networks", lambda value: [_text(value)]),
    "networking.ipv4.node_address_cidr": ("node", "addresses", lambda value: [_text(value)]),
    "clustering.control_api_advertise_url": ("node", "advertise", lambda value: [_text(value)]),
    "process.uid": ("node", "user", lambda value: str(_number(value))),
    "networking.tun_device_id": ("plugins.tun_linux", "device", _text),
    "control_api.listen_port": (
        "plugins.https",
        "listen",
        lambda value: [f"0.0.0.0:{_number(value)}"],
    ),
    "control_api.ssl.cert_file_path": ("plugins.https", "cert_file", _text),
    "control_api.ssl.key_file_path": ("plugins.https", "key_file", _text),
    "control_api.ssl.ca_file_path": ("plugins.https", "ca_file", _text),
    "control_api.ssl.verify_hostname": ("plugins.https", "verify_hostname", _flag),
    "networking.ipv4.enable_broadcast": ("routing", "broadcast", _flag),
    "process.timing.registrations.local.reregistration_interval": (
        "timing",
        "reregister_local",
        _time,
    ),
    "process.timing.registrations.local.stale_threshold": ("timing", "stale_local", _time),
    "process.timing.registrations.mesh.reregistration_interval": (
        "timing",
        "reregister_mesh",
        _time,
    ),
    "process.timing.registrations.mesh.stale_threshold": ("timing", "stale_mesh", _time),
    "process.timing.registrations.startup_grace": ("admin", "startup_grace", _time),
    "logging.level": ("log", "level", _level),
}

_OWN_WAY = "sessions have limits of their own ([timing] rekey_after, reject_after)"
_NO_QUEUE = "there are no queues between processes"
_METRICS = "metrics are served where admin.listen says, with admin.labels on each"
#: By old key, or the beginning of several: why it is not carried over.
_DROPPED = {
    "clustering.auth.secret": "put it into the file mesh.secret (mode 600), which the result names",
    "clustering.auth.pub_key_size": "keys have one size (X25519)",
    "clustering.reload_config_on_bootstrap": "`tunmesh reload` and SIGHUP reload at any time",
    "control_api.max_batch_size": "packets are joined as they come",
    "monitoring": _METRICS,
    "process.ipc": _NO_QUEUE,
    "process.timing.request_timeout": "time limits of requests are fixed",
    "process.timing.auth": _OWN_WAY,
    "process.timing.network": "packets wait in short queues, which are bounded",
    "process.timing.registrations.groom_interval": "work is done when it is due",
    "process.timing.tun_handler": "there is one process",
}


def import_config(text: str) -> Imported:
    """Translate a configuration.

    Raises:
        ConfigError: It is no YAML, or not such a configuration.
    """
    result = Imported()
    settings = _flat(_read(text, result))
    result.set("mesh", "secret_file", "mesh.secret")
    for key, value in settings.items():
        if key == "config_version":
            if str(value) != _VERSION:
                raise ConfigError(
                    f"is {value!r}; only {_VERSION} can be read", key=f"{_ROOT}.{key}"
                )
        elif key == _GROUPS:
            _groups(value, settings.get(_RETRY_INTERVAL), result)
        elif key != _RETRY_INTERVAL:
            _carry(key, value, result)
    if (
        "control_api.ssl.cert_file_path" in settings
        and "control_api.ssl.ca_file_path" not in settings
    ):
        result.notes.append(
            "control_api.ssl.ca_file_path was the certificate itself by default: set "
            "plugins.https.ca_file if certificates of others must be signed by an authority"
        )
    return result


def _read(text: str, result: Imported) -> Mapping[str, Any]:
    """The settings, as YAML 1.1 has them, noting what many people do not expect of it."""
    import yaml  # noqa: PLC0415  # needed by nothing else

    class Loader(yaml.SafeLoader):
        """Notes numbers that are not what they look like."""

    def number(loader: Any, node: Any) -> Any:  # noqa: ANN401  # PyYAML's own
        value = yaml.SafeLoader.construct_yaml_int(loader, node)
        if _OCTAL.fullmatch(node.value) or _SEXAGESIMAL.fullmatch(node.value):
            base = "60" if ":" in node.value else "8"
            line = node.start_mark.line + 1
            result.notes.append(f"line {line}: {node.value} is a number of base {base}: {value}")
        return value

    Loader.add_constructor("tag:yaml.org,2002:int", number)
    try:
        document = yaml.load(text, Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, RecursionError) as error:  # a date that is none; nested too deep
        raise ConfigError(f"not YAML: {error}") from error
    root = document.get(_ROOT) if isinstance(document, dict) else None
    if not isinstance(root, dict):
        raise ConfigError(f"has no table {_ROOT}: it is no configuration of TunMesh 0.7")
    return root


def _flat(table: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting with its dotted key; the bootstrap groups stay together."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        nested = isinstance(value, dict) and key != _GROUPS and key.count(".") < 8
        found.update(_flat(value, key) if nested else {key: value})
    return found


def _carry(key: str, value: Any, result: Imported) -> None:  # noqa: ANN401  # what YAML had
    """Carry one setting over, or note why not."""
    if key in _CARRIED:
        table, name, convert = _CARRIED[key]
        try:
            result.set(table, name, convert(value))
        except (TypeError, ValueError) as error:
            result.notes.append(f"{key} is not carried over: {error}")
        return
    for dropped, why in _DROPPED.items():
        if key == dropped or key.startswith(f"{dropped}."):
            result.notes.append(f"{key} is not carried over: {why}")
            return
    result.notes.append(f"{key} is not carried over: unknown key{suggestion(key, _CARRIED)}")


def _groups(groups: Any, interval: Any, result: Imported) -> None:  # noqa: ANN401  # what YAML had
    """The bootstrap groups, each with the interval that was common to all."""
    if not isinstance(groups, dict):
        result.notes.append(f"{_GROUPS} is not carried over: expected a table")
        return
    for name, group in groups.items():
        table = join_key("bootstrap", str(name))
        settings = dict(group) if isinstance(group, dict) else {}
        urls = settings.pop("bootstrap_node_urls", None) or []
        try:
            result.set(table, "urls", list(dict.fromkeys(_text(url) for url in urls)))
            if "bootstrap_retries" in settings:
                result.set(table, "retries", _number(settings.pop("bootstrap_retries")))
            if interval is not None:
                result.set(table, "interval", _time(interval))
        except (TypeError, ValueError) as error:
            result.notes.append(f"{_GROUPS}.{name}: {error}")
        for key in settings:
            result.notes.append(f"{_GROUPS}.{name}.{key} is not carried over: unknown key")
