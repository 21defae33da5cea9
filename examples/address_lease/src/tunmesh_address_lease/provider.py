"""Asks the lease server, and publishes what it grants."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import httpx
import msgspec

from tunmesh.plugin import AddressContext, AddressError, AddressProvider
from tunmesh_address_lease.lease import Lease, decode_untrusted
from tunmesh_address_lease.plugin import Options

log = logging.getLogger(__name__)
# It tells of each request, and so of each renewal.
logging.getLogger("httpx").setLevel(logging.WARNING)

_MOST_BYTES = 65_536
#: A clock that stands still during suspend must not hide for long that a lease is over.
_LONGEST_SLEEP = 30.0
#: Seconds for saying goodbye: the node has two for everything.
_GOODBYE = 0.5


class LeasedAddresses(AddressProvider):
    """The addresses of a lease, renewed in the background.

    A server that cannot be reached is no reason not to start: the node then has no address until
    the server grants one.
    """

    def __init__(self, context: AddressContext) -> None:
        options: Options = context.options
        self._context = context
        self._options = options
        self._url = f"{options.url.rstrip('/')}/leases/{context.node_id}"
        self._lease = Lease(0.0)
        self._client: httpx.AsyncClient | None = None
        self._scope: anyio.CancelScope | None = None

    async def __aenter__(self) -> Self:
        headers = {}
        if self._options.token_file:
            headers["Authorization"] = f"Bearer {self._token()}"
        self._client = httpx.AsyncClient(headers=headers, trust_env=False)
        try:
            self._lease = Lease(self._context.now())
            await self.attempt()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._scope = anyio.CancelScope()
        self._context.start_soon(self._follow, self._scope)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scope is not None:
            self._scope.cancel()
        client, self._client = self._client, None
        if client is None:
            return
        with anyio.move_on_after(_GOODBYE, shield=True):
            try:
                if self._lease.addresses:
                    await client.delete(self._url)
            except httpx.HTTPError as failure:  # the lease will run out by itself
                log.info("lease not returned error=%s", _reason(failure))
            await client.aclose()

    def _token(self) -> str:
        try:
            return Path(self._options.token_file).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise AddressError(
                f"{self._options.token_file}: cannot be read as a token "
                f"(plugins.{self._context.name}.token_file)"
            ) from error

    async def _follow(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                now = self._context.now()
                if self._lease.deadline() > now:
                    await anyio.sleep(min(self._lease.deadline() - now, _LONGEST_SLEEP))
                elif self._lease.expire(now):
                    log.warning("lease expired url=%s", self._url)
                    self._context.set_addresses(())
                else:
                    await self.attempt()

    async def attempt(self) -> None:
        """Ask for the lease now; a refusal changes nothing."""
        before = self._lease.addresses
        try:
            with anyio.fail_after(float(self._options.timeout)):
                body = await self._ask()
            addresses, seconds = decode_untrusted(body, self._context.mesh_networks)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self._lease.failed(self._context.now())
            log.warning("no lease url=%s error=%s", self._url, _reason(error))
        else:
            self._lease.granted(addresses, seconds, self._context.now())
        if self._lease.addresses != before or not before:
            self._context.set_addresses(self._lease.addresses)

    async def _ask(self) -> bytes:
        assert self._client is not None
        had = [str(address) for address in self._lease.addresses]
        question = msgspec.json.encode({"name": self._context.node_name, "addresses": had})
        body = b""
        async with self._client.stream("POST", self._url, content=question) as response:
            response.raise_for_status()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"an answer of more than {_MOST_BYTES} bytes")
        return body


def _reason(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    return " ".join(str(error).split()) or type(error).__name__
