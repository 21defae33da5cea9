"""Dialling others: connection, proxy, TLS, token, and the upgrade to a WebSocket."""

from __future__ import annotations

import base64
import functools
import logging
import secrets
import ssl
from typing import TYPE_CHECKING

import anyio
import httpcore
import httpx
import msgspec
from websockets.protocol import OPEN, Protocol, Side
from websockets.utils import accept_key

from tunmesh.plugin import BadToken, EndpointError
from tunmesh_transport_https import admission
from tunmesh_transport_https.certificates import client_context, digest, pin
from tunmesh_transport_https.endpoints import Endpoint
from tunmesh_transport_https.stream import MAX_DATAGRAM, quiet
from tunmesh_transport_https.wire import OneConnection, Wire, connect, usable_mark

if TYPE_CHECKING:
    from tunmesh.plugin import TransportContext
    from tunmesh_transport_https.options import Options
    from tunmesh_transport_https.pipe import Pipe

# Below warnings these tell of every request, with its headers: of its token, that is.
for _library in ("httpcore", "httpx"):
    logging.getLogger(_library).setLevel(logging.WARNING)

#: Seconds for one address of several, and for everything up to the open stream.
_ADDRESS_SECONDS = 4.0
_DIAL_SECONDS = 8.0
_MOST_BODY = 1 << 16
_SWITCHING, _OK, _UNAUTHORIZED = 101, 200, 401
#: What goes wrong on the way; httpcore's errors have no base of their own.
_FAILURES = (
    OSError,
    ValueError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpx.HTTPError,
    httpx.InvalidURL,
)


class Unreachable(EndpointError):
    """Nobody answers there now; that may change soon."""


class _Clocks(Exception):
    """The other node has another time, and told what to do."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce


class _Refused(Exception):
    """The other node takes no such token.

    Args:
        attempts: How many tokens of different secrets there are.
    """

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts


class Client:
    """Dials other nodes.

    Args:
        context: The transport's.
        options: The transport's.

    Raises:
        TransportError: A file of the options cannot be used.
    """

    def __init__(self, context: TransportContext, options: Options) -> None:
        self._context = context
        self._mark = usable_mark(context.mark)
        self._tls = client_context(options)
        self._proxy = httpx.Proxy(options.proxy) if options.proxy else None

    async def open_stream(self, endpoint: Endpoint) -> tuple[Pipe, Protocol, bytes]:
        """A WebSocket to whoever is there.

        Returns:
            Its connection, its state, and what has come already.

        Raises:
            EndpointError: It cannot be had, with the reason.
        """
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
        wire, headers, early = await self._get(endpoint, admission.STREAM_PATH, upgrade, _SWITCHING)
        if headers.get("Sec-WebSocket-Accept") != accept_key(key):
            wire.pipe.close()
            raise EndpointError(f"{endpoint.url} does not speak WebSocket")
        protocol = Protocol(Side.CLIENT, state=OPEN, max_size=MAX_DATAGRAM, logger=quiet)
        return wire.pipe, protocol, early

    async def node_info(self, endpoint: Endpoint) -> admission.NodeInfo:
        """What the node that answers tells of itself.

        Raises:
            EndpointError: It cannot be had, with the reason.
        """
        wire, _, body = await self._get(endpoint, admission.NODE_PATH, {}, _OK)
        wire.pipe.close()
        try:
            return msgspec.json.decode(body, type=admission.NodeInfo)
        except msgspec.DecodeError as error:
            raise EndpointError(f"{endpoint.url} does not tell what it is: {error}") from error

    async def _get(
        self, endpoint: Endpoint, path: str, headers: dict[str, str], status: int
    ) -> tuple[Wire, httpx.Headers, bytes]:
        """Make a request with a token, and check the token of the answer."""
        try:
            with anyio.fail_after(_DIAL_SECONDS):
                return await self._get_by_any_secret(endpoint, path, headers, status)
        except _Clocks as error:
            raise EndpointError(f"{endpoint.url} takes no token of this node's time") from error
        except BadToken as error:
            raise EndpointError(f"{endpoint.url} answered with a bad token: {error}") from error
        except TimeoutError as error:
            raise Unreachable(f"{endpoint.url} does not answer in time") from error
        except ssl.SSLCertVerificationError as error:
            raise EndpointError(f"{endpoint.url}: {error.verify_message}") from error
        except _FAILURES as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise Unreachable(
                f"{endpoint.url}: {reason or str(error) or type(error).__name__}"
            ) from error

    async def _get_by_any_secret(
        self, endpoint: Endpoint, path: str, headers: dict[str, str], status: int
    ) -> tuple[Wire, httpx.Headers, bytes]:
        """Ask with the first secret of the mesh; with the others if that is refused."""
        attempt, attempts = 0, 1
        while attempt < attempts:
            get = functools.partial(self._get_once, endpoint, path, headers, status, attempt)
            try:
                try:
                    return await get("")
                except _Clocks as other:
                    return await get(other.nonce)
            except _Refused as refusal:
                attempt, attempts = attempt + 1, refusal.attempts
        raise EndpointError(
            f"{endpoint.url} refuses this node: it has another secret or mesh name, or something "
            "in between ends TLS (plugins.https.external_cert_file there)"
        )

    async def _get_once(
        self,
        endpoint: Endpoint,
        path: str,
        headers: dict[str, str],
        status: int,
        attempt: int,
        nonce: str,
    ) -> tuple[Wire, httpx.Headers, bytes]:
        wire = await self._connect(endpoint)
        try:
            certificate = digest(wire.pipe.certificate())
            token = self._context.issue_token(
                "request", admission.request_claims(path, certificate, nonce), attempt
            )
            origin = httpcore.Origin(b"https", endpoint.host.encode(), endpoint.port)
            fields = {"User-Agent": "tunmesh", "Authorization": f"Bearer {token.text}", **headers}
            async with (
                httpx.AsyncClient(
                    transport=OneConnection(wire, origin), timeout=_DIAL_SECONDS
                ) as client,
                client.stream(
                    "GET", f"https://{endpoint.authority}{path}", headers=fields
                ) as response,
            ):
                body = b"" if response.status_code == _SWITCHING else await _body(response)
                if response.status_code == _UNAUTHORIZED:
                    _raise_refusal(body, token.attempts)
                if response.status_code != status:
                    # Of a proxy or a load balancer; behind it there may be somebody soon.
                    raise Unreachable(f"{endpoint.url} answered {response.status_code}")
                self._context.verify_token(
                    "answer",
                    response.headers.get(admission.ANSWER_HEADER, ""),
                    {
                        "aud": self._context.node_id,
                        "rj": token.id,
                        "cb": certificate,
                        "st": status,
                        "bh": admission.body_hash(body),
                    },
                )
                if status == _SWITCHING:
                    body = await _take_over(wire, response)
                return wire, response.headers, body
        finally:
            if not wire.released:
                wire.pipe.close()

    async def _connect(self, endpoint: Endpoint) -> Wire:
        """A connection with TLS, through the proxy if there is one."""
        if self._proxy is None:
            wire = await self._reach(endpoint.host, endpoint.port)
        else:
            proxy = self._proxy.url
            wire = await self._reach(proxy.host, proxy.port or 80)
        try:
            if self._proxy is not None:
                await self._tunnel(wire, endpoint, self._proxy)
            await wire.secure(self._tls, endpoint.host)
            _check_pin(endpoint, wire.pipe.certificate())
        except BaseException:
            wire.pipe.close()
            raise
        return wire

    async def _reach(self, host: str, port: int) -> Wire:
        def allowed(address: str) -> bool:
            return not self._context.is_overlay(address)

        pipe = await connect(
            host, port, allowed=allowed, seconds_each=_ADDRESS_SECONDS, mark=self._mark
        )
        return Wire(pipe)

    async def _tunnel(self, wire: Wire, endpoint: Endpoint, proxy: httpx.Proxy) -> None:
        """Have a proxy connect to the endpoint (RFC 9110, 9.3.6)."""
        target = endpoint.authority
        headers = [(b"Host", target.encode()), (b"User-Agent", b"tunmesh")]
        if proxy.raw_auth is not None:
            credentials = base64.b64encode(b":".join(proxy.raw_auth))
            headers.append((b"Proxy-Authorization", b"Basic " + credentials))
        url = proxy.url
        origin = httpcore.Origin(b"http", url.raw_host, url.port or 80)
        connection = httpcore.AsyncHTTP11Connection(origin=origin, stream=wire)
        request = httpcore.Request(
            "CONNECT",
            httpcore.URL(scheme=b"http", host=url.raw_host, port=url.port, target=target),
            headers=headers,
        )
        answer = await connection.handle_async_request(request)
        if not _OK <= answer.status < 300:
            raise EndpointError(
                f"the proxy {url.host} does not connect to {target}: it answers {answer.status}"
            )
        wire.released = True  # by this connection, whose end must not close it
        await answer.aclose()
        wire.released = False


def _check_pin(endpoint: Endpoint, certificate: bytes) -> None:
    if endpoint.pin and pin(certificate) != endpoint.pin:
        raise EndpointError(f"{endpoint.url} shows another certificate than announced")


async def _body(response: httpx.Response) -> bytes:
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _MOST_BODY:
            raise EndpointError(f"{response.url} answers with too much")
    return body


def _raise_refusal(body: bytes, attempts: int) -> None:
    try:
        nonce = msgspec.json.decode(body, type=admission.Nonce).nonce
    except msgspec.DecodeError:
        raise _Refused(attempts) from None
    raise _Clocks(nonce)


async def _take_over(wire: Wire, response: httpx.Response) -> bytes:
    """Have the connection for ourselves; returns what has come already."""
    wire.released = True
    stream: httpcore.AsyncNetworkStream = response.extensions["network_stream"]
    early = b""
    while part := await stream.read(_MOST_BODY):  # only what httpcore has read too far
        early += part
    return early
