"""Tokens of requests between nodes and of their answers: compact JSON Web Tokens (RFC 7519).

What a transport sends as HTTP is admitted by such a token. It proves that the sender holds a mesh
secret, and is good for one request only: for its method, path and body, for the certificate that
the sender saw, for a minute, and once. It gives its sender a place to send from, nothing more:
who a node is only its handshake shows.

::

    header   exactly {"alg":"HS256","kid":"<which secret>","typ":"tmreq+jwt" | "tmrsp+jwt"}
    claims   iss aud iat exp jti bid, and what the transport binds the token to

Checked in this order: size, header (as text, before anything is parsed), signature, spelling and
types of the claims, audience and what the transport expects, time, replay. A sender whose clock is
wrong is given a nonce, with which the time is not looked at.

Contains no I/O; both clocks are injected.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from jwt import PyJWS
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode, base64url_encode

from tunmesh.errors import BadToken, StaleToken
from tunmesh.identity.replays import ReplayCache

if TYPE_CHECKING:
    from tunmesh.identity.secrets import Keyring, MeshKeys

TokenKind: TypeAlias = Literal["request", "answer"]
Claims: TypeAlias = dict[str, str | int]

MAX_TOKEN = 4096
#: Seconds that a token is good for.
LIFETIME = 60
#: Seconds that two clocks may differ.
LEEWAY = 60
#: Seconds after which a nonce changes; the one before it is still accepted.
NONCE_PERIOD = 30.0

_ALGORITHM = "HS256"
_TYPES: dict[TokenKind, str] = {"request": "tmreq+jwt", "answer": "tmrsp+jwt"}
_JWS = PyJWS(algorithms=[_ALGORITHM])
_JTI_BYTES = 16
_NONCE_BYTES = 16
_MOST_ASKERS = 1024  # each is answered at once
_EARLIEST = 1.0  # of the wall clock: before that it was never set
#: A token's id is remembered for as long as the token could be accepted.
_REMEMBERED = LIFETIME + 2 * LEEWAY


class Tokens:
    """Makes and checks the tokens of one node.

    Args:
        node_id: This node's id.
        boot_id: Of this process.
        keyring: Signs with its first secret, accepts all.
        wall: Seconds since 1970.
        clock: Seconds that never jump.
    """

    def __init__(
        self,
        node_id: str,
        boot_id: bytes,
        keyring: Keyring,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._node_id = node_id
        self._boot_id = boot_id.hex()
        self._wall = wall
        self._clock = clock
        #: Under which secret each node asked last, which is how it is answered.
        self._askers: OrderedDict[str, MeshKeys] = OrderedDict()
        self.set_keyring(keyring)
        #: Ids of accepted tokens, and of those that were accepted for their nonce.
        self._seen = ReplayCache(_REMEMBERED)
        self._seen_with_nonce = ReplayCache(2 * NONCE_PERIOD)

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept other secrets from now on."""
        self._all = keyring.all
        self._headers: dict[TokenKind, dict[str, MeshKeys]] = {
            kind: {_header(kind, keys): keys for keys in reversed(keyring.all)} for kind in _TYPES
        }
        self._askers.clear()

    @property
    def attempts(self) -> int:
        """How many requests differ in the secret that signs them."""
        return len(self._all)

    def issue(
        self, kind: TokenKind, claims: Mapping[str, str | int], attempt: int = 0
    ) -> tuple[str, str]:
        """Sign a token.

        Args:
            kind: Of a request, or of the answer to one.
            claims: What it is bound to. A request is for any node of the mesh unless they have an
                ``aud``; an answer needs one, and is signed as that node's last request.
            attempt: How many tokens for the request were refused: each is signed with the next of
                the secrets, as the other node may not have the first one yet.

        Returns:
            The token and its id.
        """
        keys = self._all[attempt % len(self._all)]
        if kind == "answer":
            keys = self._askers.get(str(claims.get("aud")), keys)
        now = int(self._wall())
        token_id = secrets.token_urlsafe(_JTI_BYTES)
        complete: Claims = {
            "iss": self._node_id,
            "aud": _audience(keys),
            "iat": now,
            "exp": now + LIFETIME,
            "jti": token_id,
            "bid": self._boot_id,
            **claims,
        }
        return _sign(kind, keys, msgspec.json.encode(complete)), token_id

    def verify(
        self,
        kind: TokenKind,
        token: str,
        expected: Mapping[str, str | int | Collection[str]],
        *,
        source: bytes = b"",
    ) -> Claims:
        """Check a token that came from outside.

        Args:
            kind: What it must be.
            token: As it came.
            expected: Claims that it must have, each with its value or the values allowed.
            source: Who sent it, as far as the network tells; a nonce is good for one source.

        Returns:
            Its claims.

        Raises:
            StaleToken: It is authentic, but its time is not ours; with the nonce to use.
            BadToken: Anything else is wrong.
        """
        keys = self._keys_untrusted(kind, token)
        claims = _claims_untrusted(token, keys)
        _check_forms(claims)
        if claims["aud"] not in (self._node_id, _audience(keys)):
            raise BadToken("token for somebody else")
        for name, value in expected.items():
            found = claims.get(name)
            allowed = (value,) if isinstance(value, str | int) else value
            if found not in allowed:
                raise BadToken(f"token with another {name}")
        if kind == "request":  # an answer repeats the request's id, which is new each time
            self._check_time_and_replay(claims, keys, source)
            self._remember(str(claims["iss"]), keys)
        return claims

    def _remember(self, asker: str, keys: MeshKeys) -> None:
        self._askers[asker] = keys
        self._askers.move_to_end(asker)
        if len(self._askers) > _MOST_ASKERS:
            self._askers.popitem(last=False)

    def _keys_untrusted(self, kind: TokenKind, token: str) -> MeshKeys:
        if len(token) > MAX_TOKEN or not token.isascii():
            raise BadToken("token too long or not ASCII")
        header, _, rest = token.partition(".")
        keys = self._headers[kind].get(header)
        if keys is None or rest.count(".") != 1:
            raise BadToken("token with another header")
        return keys

    def _check_time_and_replay(self, claims: Claims, keys: MeshKeys, source: bytes) -> None:
        wall, now = self._wall(), self._clock()
        issued, expires = int(claims["iat"]), int(claims["exp"])
        if not 0 < expires - issued <= LIFETIME:
            raise BadToken("token of an absurd lifetime")
        who, token_id = str(claims["iss"]), str(claims["jti"])
        nonce = claims.get("nonce")
        if nonce is not None:
            if not any(
                hmac.compare_digest(str(nonce), valid) for valid in self._nonces(keys, source)
            ):
                raise StaleToken(self._nonces(keys, source)[0])
            if not self._seen_with_nonce.add(who, token_id, now):
                raise BadToken("token used before")
            return
        if not issued - LEEWAY <= wall <= expires + LEEWAY:
            raise StaleToken(self._nonces(keys, source)[0])
        if not self._seen.add(who, token_id, now):
            if self._seen.full_for(who):
                raise StaleToken(self._nonces(keys, source)[0])
            raise BadToken("token used before")

    def _nonces(self, keys: MeshKeys, source: bytes) -> tuple[str, str]:
        """What is valid now: the newest, and the one before.

        Keyed by the mesh secret, so that behind a load balancer the next node accepts it too.
        """
        period = int(max(self._wall(), _EARLIEST) / NONCE_PERIOD)
        newest, before = (
            hmac.digest(keys.jwt, b"nonce" + (period - age).to_bytes(8, "big") + source, "sha256")
            for age in (0, 1)
        )
        return newest[:_NONCE_BYTES].hex(), before[:_NONCE_BYTES].hex()


def _audience(keys: MeshKeys) -> str:
    """Any node of the mesh."""
    return f"mesh:{keys.mesh_id.hex()}"


def _sign(kind: TokenKind, keys: MeshKeys, payload: bytes) -> str:
    headers: dict[str, Any] = {"typ": _TYPES[kind], "kid": keys.psk_id.hex()}
    return _JWS.encode(payload, keys.jwt, _ALGORITHM, headers, sort_headers=True)


def _header(kind: TokenKind, keys: MeshKeys) -> str:
    """The one spelling of the header of a token of this kind under these keys."""
    return _sign(kind, keys, b"").partition(".")[0]


def _claims_untrusted(token: str, keys: MeshKeys) -> Claims:
    """The claims of a token whose header is known to be ours.

    Only one spelling is accepted of everything, so that nobody can make a second token out of a
    first one, and no two readers see different claims.

    Raises:
        BadToken: It is not authentic, or not spelled as `Tokens.issue` does.
    """
    try:
        payload: bytes = _JWS.decode(token, keys.jwt, algorithms=[_ALGORITHM])
        signature = token.rpartition(".")[2]
        canonical = base64url_encode(base64url_decode(signature)).decode() == signature
        claims = msgspec.json.decode(payload, type=dict[str, str | int])
    except (ValueError, PyJWTError) as error:  # msgspec's errors are ValueErrors
        raise BadToken(f"token does not verify: {error}") from error
    if not canonical or msgspec.json.encode(claims) != payload:
        raise BadToken("token in another spelling")
    return claims


def _check_forms(claims: Claims) -> None:
    for name, form in _FORMS.items():
        if type(claims.get(name)) is not form:
            raise BadToken(f"token without a proper {name}")


_FORMS: dict[str, type] = {
    "iss": str,
    "aud": str,
    "iat": int,
    "exp": int,
    "jti": str,
    "bid": str,
}
