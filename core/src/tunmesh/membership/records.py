"""Node records: what each node says of itself, signed, so that anybody may pass it on."""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import ip_interface
from typing import Annotated

import msgspec
from msgspec import Meta

from tunmesh.errors import BadPacket
from tunmesh.identity.keys import NodeKey, node_id_of, x25519_from_ed25519_untrusted
from tunmesh.membership import fields
from tunmesh.membership.tokens import check_signature_untrusted, payload_untrusted, sign_token

#: Sequence numbers stay exact in every JSON reader.
MAX_SEQ = 2**53 - 1
#: Bytes of a record's entry in a listing: node id, sequence number, start of the fingerprint.
SUMMARY = 32


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself.

    Attributes:
        name: Its name, already clean.
        addresses: Overlay addresses with their local prefixes, ``10.42.1.1/24``.
        subnets: Prefixes behind it, with their metrics.
        endpoints: Where it can be reached, best first.
        transports: Names of its transports.
        versions: Versions of tunmesh and of its plugins, by name.
        attributes: What plugins publish, by plugin name.
        relay: Whether it carries datagrams for others.
    """

    name: str
    addresses: tuple[str, ...] = ()
    subnets: tuple[tuple[str, int], ...] = ()
    endpoints: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    attributes: dict[str, bytes] = {}
    relay: bool = False


class NodeRecord(Profile, frozen=True, kw_only=True):
    """A verified record.

    Attributes:
        node_id: Hash of the X25519 form of the key.
        ed25519: Its key, which signed the record.
        x25519: The same key in its other form.
        held_s: For each address, how many seconds the node had held it when it signed.
        seq: Of two records of one node the one with the larger number holds.
        boot_id: Tells the processes of one key apart; 16 hexadecimal digits.
        left: The node has said goodbye.
        token: The signed form.
        hosts: The addresses, packed, without prefixes.
        fingerprint: Hash of the token.
        summary: The record's entry in a listing.
    """

    node_id: str
    ed25519: bytes
    x25519: bytes
    held_s: tuple[float, ...]
    seq: int
    boot_id: str
    left: bool
    token: str
    hosts: tuple[bytes, ...]
    fingerprint: int
    summary: bytes

    def supersedes(self, other: NodeRecord) -> bool:
        """Whether this record is the newer of two of one node.

        A node that signs two records with one number is told by their hashes: everybody keeps
        the same one.
        """
        return (self.seq, self.fingerprint) > (other.seq, other.fingerprint)


_Word = Annotated[str, Meta(min_length=1, max_length=64)]


class _Payload(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The claims of a record token. Unknown ones are left alone: a newer version may add some."""

    key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    boot: str
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    name: Annotated[str, Meta(max_length=255)] = ""
    addresses: Annotated[
        tuple[tuple[str, Annotated[float, Meta(ge=0)]], ...], Meta(max_length=64)
    ] = ()
    subnets: Annotated[
        tuple[tuple[str, Annotated[int, Meta(ge=0, lt=2**31)]], ...], Meta(max_length=256)
    ] = ()
    endpoints: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    transports: Annotated[tuple[_Word, ...], Meta(max_length=32)] = ()
    versions: Annotated[dict[_Word, _Word], Meta(max_length=64)] = {}
    attributes: Annotated[
        dict[_Word, Annotated[bytes, Meta(max_length=16 * 1024)]], Meta(max_length=32)
    ] = {}
    relay: bool = False
    left: bool = False


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(_Payload)


def sign_record(
    key: NodeKey,
    profile: Profile,
    *,
    held_s: tuple[float, ...],
    seq: int,
    boot_id: str,
    left: bool = False,
) -> NodeRecord:
    """Sign what a node says of itself.

    Args:
        key: The node's key.
        profile: What it says.
        held_s: For each address of the profile, for how many seconds it has been held.
        seq: Larger than that of every record that the node signed before.
        boot_id: Of this process.
        left: Say goodbye.

    Raises:
        BadPacket: Others would not accept such a record; what is wrong stands in the message.
    """
    payload = _Payload(
        key=key.ed25519_public,
        boot=boot_id,
        seq=seq,
        name=profile.name,
        addresses=tuple(zip(profile.addresses, held_s, strict=True)),
        subnets=profile.subnets,
        endpoints=profile.endpoints,
        transports=profile.transports,
        versions=profile.versions,
        attributes=profile.attributes,
        relay=profile.relay,
        left=left,
    )
    token = sign_token(key, _ENCODER.encode(payload))
    # The same path as a stranger's record: what we could not accept is never sent.
    return _record_untrusted(token, payload_untrusted(token))


def decode_record_untrusted(token: str) -> NodeRecord:
    """Check a record: its form, its signature, that the key is the node's, every field.

    Raises:
        BadPacket: Something of that does not hold.
    """
    record = _record_untrusted(token, payload_untrusted(token))
    check_signature_untrusted(token, record.ed25519)
    return record


def _record_untrusted(token: str, data: bytes) -> NodeRecord:
    """The record of a token whose signature the caller answers for."""
    try:
        payload = _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadPacket(f"record payload: {error}") from error
    addresses = tuple(fields.address_untrusted(text) for text, _ in payload.addresses)
    hosts = tuple(ip_interface(text).ip.packed for text in addresses)
    if len(set(hosts)) != len(hosts):
        raise BadPacket("record with an address twice")
    x25519 = x25519_from_ed25519_untrusted(payload.key)
    node_id = node_id_of(x25519)
    fingerprint = blake2b(token.encode(), digest_size=16).digest()
    return NodeRecord(
        node_id=node_id,
        ed25519=payload.key,
        x25519=x25519,
        name=fields.clean_name(payload.name) or node_id[:8],
        addresses=addresses,
        held_s=tuple(held for _, held in payload.addresses),
        subnets=tuple((fields.subnet_untrusted(text), metric) for text, metric in payload.subnets),
        endpoints=tuple(fields.endpoint_untrusted(text) for text in payload.endpoints),
        transports=payload.transports,
        versions=payload.versions,
        attributes=payload.attributes,
        relay=payload.relay,
        seq=payload.seq,
        boot_id=fields.boot_id_untrusted(payload.boot),
        left=payload.left,
        token=token,
        hosts=hosts,
        fingerprint=int.from_bytes(fingerprint, "big"),
        summary=bytes.fromhex(node_id) + payload.seq.to_bytes(8, "big") + fingerprint[:8],
    )


class RecordVerifier:
    """Verifies records and remembers the verified ones: a signature costs 180 µs, a look-up 0.3.

    Any number of directories of one process may share one.

    Args:
        cache_size: Records that are remembered; the oldest one goes first. They take about 5 KiB
            each; the default is two versions of those of a thousand nodes.
    """

    def __init__(self, cache_size: int = 2048) -> None:
        self._cache_size = cache_size
        self._verified: dict[str, NodeRecord] = {}

    def verify(self, token: str) -> NodeRecord:
        """The record of a token; the same object for the same token.

        Raises:
            BadPacket: As `decode_record_untrusted`.
        """
        record = self._verified.get(token)
        if record is None:
            record = decode_record_untrusted(token)
            self.remember(record)
        return record

    def remember(self, record: NodeRecord) -> None:
        """Take a record that needs no verification: one that this process signed itself."""
        verified = self._verified
        verified[record.token] = record
        if len(verified) > self._cache_size:
            del verified[next(iter(verified))]
