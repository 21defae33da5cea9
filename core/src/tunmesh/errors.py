"""Every error that tunmesh raises on purpose.

::

    TunmeshError
    ├── ConfigError            a configuration that cannot be used (exit 2)
    ├── PluginError            a plugin that cannot be used (exit 2)
    │   ├── PluginNotFound
    │   ├── DuplicatePlugin
    │   ├── PluginImportError
    │   ├── PluginApiError     written for another version of the API
    │   └── PluginHookError    a hook that does not fit its specification
    ├── TunError               the device or the host's network configuration
    ├── AddressError           an overlay address that cannot be used
    ├── TransportError
    │   ├── EndpointError      an endpoint that cannot be understood or resolved
    │   └── DatagramTooLarge
    ├── AdminError             the running node did not answer as expected
    ├── CommandError           a command that cannot do what it was asked for
    └── ProtocolError          abstract
        ├── LocalProtocolError     misuse on this side
        └── RemoteProtocolError    abstract: counted and dropped, never ends a session
            ├── BadPacket
            ├── BadHandshake
            ├── ReplayedCounter
            └── BadToken           a request that is not admitted
                └── StaleToken

Messages are one readable line: what, where, how to mend it.
"""

from __future__ import annotations


class TunmeshError(Exception):
    """Base of all errors that tunmesh raises on purpose."""


class ConfigError(TunmeshError):
    """A configuration that cannot be used.

    Args:
        message: One line, without the key.
        key: Dotted path of the offending key, if there is one.
        path: File that holds it, if it came from a file.
    """

    def __init__(self, message: str, *, key: str = "", path: str = "") -> None:
        self.message = message
        self.key = key
        self.path = path
        super().__init__(": ".join(part for part in (path, key, message) if part))


class PluginError(TunmeshError):
    """A plugin that cannot be used.

    Args:
        message: One line, without the plugin's name.
        name: The entry point's name.
        distribution: The distribution that holds it, empty if unknown.
    """

    def __init__(self, message: str, *, name: str, distribution: str = "") -> None:
        self.message = message
        self.name = name
        self.distribution = distribution
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin {name}{origin}: {message}")


class PluginNotFound(PluginError):
    """No installed distribution offers a plugin of that name."""


class DuplicatePlugin(PluginError):
    """More than one installed distribution offers a plugin of that name."""


class PluginImportError(PluginError):
    """The plugin's module could not be imported."""


class PluginApiError(PluginError):
    """The plugin is written for another version of the plugin API."""


class PluginHookError(PluginError):
    """A hook of the plugin does not fit its specification."""


class TunError(TunmeshError):
    """The TUN device, or the host's network configuration, failed."""


class AddressError(TunmeshError):
    """An overlay address that cannot be used."""


class TransportError(TunmeshError):
    """A transport failed."""


class EndpointError(TransportError):
    """An endpoint that cannot be understood, resolved or reached."""


class DatagramTooLarge(TransportError):
    """A datagram that does not fit the path.

    Args:
        size: Bytes of the datagram.
        limit: Bytes that the path takes.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"datagram of {size} bytes on a path that takes {limit}")


class AdminError(TunmeshError):
    """The running node could not be asked, or refused."""


class CommandError(TunmeshError):
    """A command cannot do what it was asked for, as to write a file."""


class ProtocolError(TunmeshError):
    """Abstract: somebody did not keep to the protocol."""


class LocalProtocolError(ProtocolError):
    """This side used the protocol wrongly: a defect in tunmesh or in a plugin."""


class RemoteProtocolError(ProtocolError):
    """Abstract: the other side did not keep to the protocol. Counted and dropped."""


class BadPacket(RemoteProtocolError):
    """Bytes from outside that are malformed."""


class BadHandshake(RemoteProtocolError):
    """A handshake message that does not authenticate."""


class ReplayedCounter(RemoteProtocolError):
    """A unit whose counter was seen before or lies behind the replay window."""


class BadToken(RemoteProtocolError):
    """The token of a request, or of an answer, is not acceptable."""


class StaleToken(BadToken):
    """An authentic token whose time is not this node's: the clocks differ, or it is old.

    Args:
        nonce: A new token that has it is accepted whatever its time.
    """

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        super().__init__("token of another time")
