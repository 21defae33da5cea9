"""Which requests are served: those with a token of the mesh. To others all answers are the same.

::

    GET /tunmesh/v1/stream   101: a WebSocket that carries datagrams
    GET /tunmesh/v1/node     200: {"id": …, "endpoints": […]}, by which the node can be reached
                             401: to anybody who has no acceptable token, whatever is asked
                             401 with {"nonce": …}: the token is authentic, but of another time

Contains no I/O. Both tokens are bound to method, path, body and the certificate that the client
saw: who ends TLS in between, without being named in the configuration, is found out by both.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tunmesh.plugin import BadToken, StaleToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunmesh.plugin import TransportContext

STREAM_PATH = "/tunmesh/v1/stream"
NODE_PATH = "/tunmesh/v1/node"
#: Carries the token of the answer.
ANSWER_HEADER = "Tunmesh-Answer"
_BEARER = "Bearer "
_UNAUTHORIZED = b"unauthorized\n"


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node tells of itself."""

    id: str
    endpoints: tuple[str, ...]


class Nonce(msgspec.Struct, frozen=True):
    """What a node asks of a client whose clock is another."""

    nonce: str


def body_hash(body: bytes) -> str:
    """What binds a token to a body."""
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def request_claims(path: str, certificate: str, nonce: str = "") -> dict[str, str | int]:
    """What the token of a request is bound to.

    Args:
        path: What is asked for.
        certificate: Digest of the one that was seen.
        nonce: If one was asked for.
    """
    claims: dict[str, str | int] = {
        "htm": "GET",
        "htu": path,
        "bh": body_hash(b""),
        "cb": certificate,
    }
    if nonce:
        claims["nonce"] = nonce
    return claims


def answer_claims(
    request: Mapping[str, str | int], status: int, body: bytes
) -> dict[str, str | int]:
    """What the token of an answer is bound to: the request, and what is answered."""
    return {
        "aud": request["iss"],
        "rj": request["jti"],
        "cb": request["cb"],
        "st": status,
        "bh": body_hash(body),
    }


def admit(
    context: TransportContext, request: Request, certificates: Collection[str], source: bytes
) -> Mapping[str, str | int]:
    """The claims of a request's token.

    Args:
        context: Verifies.
        request: As it came.
        certificates: Digests of those that the client may have seen.
        source: As of a path.

    Raises:
        BadToken: It is not to be served.
        StaleToken: It is, once it comes with the nonce.
    """
    values = request.headers.get_all("Authorization")
    if len(values) != 1 or not values[0].startswith(_BEARER):
        raise BadToken("request without a token")
    if request.path not in (STREAM_PATH, NODE_PATH):
        raise BadToken("request for something else")
    expected: dict[str, str | int | Collection[str]] = {
        **request_claims(request.path, ""),
        "cb": certificates,
        "htm": request.method,
    }
    return context.verify_token("request", values[0].removeprefix(_BEARER), expected, source=source)


def refusal(error: BadToken) -> Response:
    """The answer to a request that is not served."""
    body = _UNAUTHORIZED
    if isinstance(error, StaleToken):
        body = msgspec.json.encode(Nonce(error.nonce))
    return response(401, "Unauthorized", body, **{"WWW-Authenticate": "Bearer"})


def response(status: int, phrase: str, body: bytes, **headers: str) -> Response:
    """An answer after which the connection is closed."""
    fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status, phrase, Headers(fields), body)
