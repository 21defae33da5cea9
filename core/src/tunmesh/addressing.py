"""The addresses of this node, by who contributes them: the configuration, the node, plugins."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path

from tunmesh.config.scalars import is_auto, parse_auto
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.membership.auto import AutoAddresses
from tunmesh.membership.claims import Claims

log = logging.getLogger(__name__)

#: In the state directory, the addresses that the node took by itself, one a line.
FILE_NAME = "addresses"
_LONGEST_FILE = 65_536

_STATIC = "static"
_AUTO = "auto"


class OwnAddresses:
    """The addresses of this node.

    Args:
        node_id: This node.
        texts: Those of the configuration, which was checked.
        networks: The mesh networks.
        state_dir: Where those are kept that the node takes by itself; None if nowhere.
    """

    def __init__(
        self,
        node_id: str,
        texts: Iterable[str],
        networks: tuple[Network, ...],
        state_dir: Path | None,
    ) -> None:
        texts = tuple(texts)
        static = static_addresses(texts)
        self._by_provider: dict[str, tuple[Interface, ...]] = {_STATIC: static}
        self._configured = {_STATIC, _AUTO}
        self._state_dir = state_dir
        self._auto: AutoAddresses | None = None
        for text in texts:
            if is_auto(text):
                self._auto = AutoAddresses(
                    node_id,
                    networks,
                    parse_auto(text),
                    kept=load_addresses(state_dir) if state_dir else (),
                    static=(interface.ip for interface in static),
                )
                self._take()

    def set_static(self, texts: Iterable[str]) -> None:
        """Those of a changed configuration, none of which the node is to find by itself."""
        self._by_provider[_STATIC] = static_addresses(texts)

    def set(self, provider: str, addresses: tuple[Interface, ...]) -> None:
        """What a provider contributes."""
        self._by_provider[provider] = addresses

    def configure(self, provider: str) -> None:
        """What a provider contributes is to be configured on the device."""
        self._configured.add(provider)

    def all(self) -> tuple[Interface, ...]:
        """All addresses, each once."""
        return _unique(self._by_provider.values())

    def for_device(self) -> tuple[Interface, ...]:
        """Those that the device should be given."""
        return _unique(
            addresses
            for provider, addresses in self._by_provider.items()
            if provider in self._configured
        )

    def settle(self, claims: Claims) -> bool:
        """Leave addresses that others have, of those that the node took; whether any changed."""
        if self._auto is None or not self._auto.settle(claims):
            return False
        self._take()
        return True

    def _take(self) -> None:
        assert self._auto is not None
        addresses = self._by_provider[_AUTO] = self._auto.addresses
        log.info("addresses taken addresses=%s", ",".join(map(str, addresses)))
        for network in self._auto.full:
            log.warning("no free address network=%s", network)
        if self._state_dir:
            try:
                keep_addresses(self._state_dir, addresses)
            except OSError as error:
                log.warning("addresses not kept directory=%s error=%s", self._state_dir, error)


def static_addresses(texts: Iterable[str]) -> tuple[Interface, ...]:
    """The addresses of a configuration that the node does not find by itself."""
    return tuple(ip_interface(text) for text in texts if not is_auto(text))


def load_addresses(state_dir: Path) -> tuple[Interface, ...]:
    """The addresses that are kept in a directory. What cannot be read is as good as not there."""
    try:
        with (state_dir / FILE_NAME).open(encoding="ascii") as file:
            return tuple(map(ip_interface, file.read(_LONGEST_FILE).split()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        log.warning("kept addresses ignored directory=%s error=%s", state_dir, error)
        return ()


def keep_addresses(state_dir: Path, addresses: Iterable[Interface]) -> None:
    """Replace the addresses that are kept in a directory.

    Raises:
        OSError: That failed; those kept before are there still.
    """
    path = state_dir / FILE_NAME
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    temporary.write_text("".join(f"{address}\n" for address in addresses), encoding="ascii")
    temporary.replace(path)


def _unique(contributed: Iterable[tuple[Interface, ...]]) -> tuple[Interface, ...]:
    found: dict[IPv4Address | IPv6Address, Interface] = {}
    for addresses in contributed:
        for address in addresses:
            found.setdefault(address.ip, address)
    return tuple(found.values())
