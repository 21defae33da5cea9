"""Fakes and packets that several tests share: a transport that remembers, keys, frames, units."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from tunmesh.errors import EndpointError
from tunmesh.interfaces.transport import PathHandle, Transport
from tunmesh.interfaces.tun import Buffer
from tunmesh.packet import checksum, fold, pseudo_header_sum
from tunmesh.session.keypair import Keypair
from tunmesh.session.suites import AES256GCM

ALL_OFFLOADS = frozenset({"csum", "tso4", "tso6", "uso4", "uso6"})
_HEADER = struct.Struct("!BBHIQ")
_VIRTIO = struct.Struct("<BBHHHH")


@dataclass(frozen=True)
class Sent:
    """One call of `Transport.send`."""

    handle: PathHandle
    data: bytes
    segment_size: int

    @property
    def datagrams(self) -> list[bytes]:
        """The datagrams one by one."""
        size = self.segment_size
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]


class RecordingTransport(Transport):
    """Remembers what is sent, and insists that each send keeps within its limits.

    Attributes:
        sends: What was sent, oldest first.
        full: Whether it says that its queue is full, for each coming send; False after these.
        adopted: The handles in use.
        unreachable: Endpoints that it cannot connect to.
        lost: What it counts as lost by this host's own fault.
    """

    schemes = frozenset({"test"})

    def __init__(self, *, max_segments: int = 64, max_send: int = 65507, priority: int = 0) -> None:
        self.name = "recording"
        self.max_segments = max_segments
        self.max_send = max_send
        self.priority = priority
        self.sends: list[Sent] = []
        self.full: list[bool] = []
        self.adopted: list[PathHandle] = []
        self.unreachable: set[str] = set()
        self.lost = 0
        self._handles: dict[str, PathHandle] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def local_endpoints(self) -> tuple[str, ...]:
        return ("test://here:1",)

    def connect(self, endpoint: str) -> PathHandle:
        if endpoint in self.unreachable:
            raise EndpointError(f"cannot reach {endpoint}")
        return self._handles.setdefault(
            endpoint, PathHandle(self, endpoint, source=b"here", max_datagram=1472)
        )

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        sent = Sent(handle, b"".join(buffers), segment_size)
        assert 0 < len(sent.data) <= self.max_send
        assert len(sent.datagrams) <= self.max_segments
        assert handle.transport is self
        self.sends.append(sent)
        return not (self.full and self.full.pop(0))

    def adopt(self, handle: PathHandle) -> None:
        self.adopted.append(handle)

    def release(self, handle: PathHandle) -> None:
        self.adopted.remove(handle)

    def overruns(self) -> int:
        return self.lost

    @property
    def datagrams(self) -> list[bytes]:
        """All datagrams sent, one by one."""
        return [datagram for sent in self.sends for datagram in sent.datagrams]

    def taken(self) -> list[bytes]:
        """All datagrams sent since the last call."""
        datagrams = self.datagrams
        self.sends.clear()
        return datagrams


def keypairs(
    *, first: int = 0x01020304, second: int = 0xA0B0C0D0, created: float = 0.0, seed: bytes = b"1"
) -> tuple[Keypair, Keypair]:
    """Both ends of one handshake: that of the initiator, and the responder's."""

    def one(*, initiator: bool) -> Keypair:
        secrets = (seed * 32)[:32], (seed * 31 + b"2")[:32]
        return Keypair(
            local_index=first if initiator else second,
            remote_index=second if initiator else first,
            suite=AES256GCM,
            initiator=initiator,
            created=created,
            boot_id=b"initiatr" if not initiator else b"respondr",
            send_secret=secrets[not initiator],
            recv_secret=secrets[initiator],
        )

    return one(initiator=True), one(initiator=False)


def units(datagrams: Iterable[bytes], keypair: Keypair) -> list[bytes]:
    """The plaintexts of units of which all slices are given, in the order of their counters."""
    found: dict[int, dict[int, bytes]] = {}
    for datagram in datagrams:
        kind, index, _, receiver, word = _HEADER.unpack_from(datagram)
        assert kind == 4
        assert receiver == keypair.local_index
        found.setdefault(word, {})[index] = datagram[16:]
    plains = []
    for word, slices in sorted(found.items()):
        sealed = b"".join(slices[index] for index in range(len(slices)))
        assert len(sealed) == word & 0xFFFFF
        nonce = (keypair.recv_iv ^ word).to_bytes(12, "big")
        aad = struct.pack("!IQ", keypair.local_index, word)
        plains.append(keypair.recv_aead.decrypt(nonce, sealed, aad))
    return plains


def items(plain: bytes) -> list[tuple[int, bytes]]:
    """The items of a unit: kind and body."""
    found = []
    while plain:
        end = 4 + int.from_bytes(plain[1:4], "big")
        assert len(plain) >= end
        found.append((plain[0], plain[4:end]))
        plain = plain[end:]
    return found


def as_item(kind: int, body: bytes) -> bytes:
    """An item of a unit."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def unit_of(*frames: bytes) -> bytes:
    """The plaintext of a unit that holds frames."""
    return b"".join(as_item(1, frame) for frame in frames)


def packet(source: str, destination: str, payload: bytes = b"", protocol: int = 17) -> bytes:
    """An IP packet."""
    src, dst = ip_address(source), ip_address(destination)
    assert src.version == dst.version
    if src.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return head + src.packed + dst.packed + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    addresses = src.packed + dst.packed
    check = checksum(head + addresses).to_bytes(2, "big")
    return head[:10] + check + addresses + payload


def frame(source: str, destination: str, payload: bytes = b"", protocol: int = 59) -> bytes:
    """A frame without offloads."""
    return bytes(10) + packet(source, destination, payload, protocol)


def _partial(packet_: bytes, start: int, offset: int, protocol: int) -> bytes:
    pseudo = fold(pseudo_header_sum(packet_, protocol, len(packet_) - start))
    at = start + offset
    return packet_[:at] + pseudo.to_bytes(2, "big") + packet_[at + 2 :]


def udp_frame(source: str, destination: str, payload: bytes, *, port: int = 53) -> bytes:
    """A UDP datagram as the kernel gives it: with a partial checksum."""
    head = struct.pack("!HHHH", 4000, port, 8 + len(payload), 0)
    start = 40 if ":" in source else 20
    whole = _partial(packet(source, destination, head + payload), start, 6, 17)
    return _VIRTIO.pack(1, 0, 0, 0, start, 6) + whole


def tcp_superframe(source: str, destination: str, payload: bytes, size: int) -> bytes:
    """A TCP superpacket of segments of `size` bytes, as the kernel gives it."""
    head = struct.pack("!HHIIBBHHH", 80, 4000, 1, 2, 5 << 4, 0x10, 1000, 0, 0)
    six = ":" in source
    start = 40 if six else 20
    whole = _partial(packet(source, destination, head + payload, 6), start, 16, 6)
    return _VIRTIO.pack(1, 4 if six else 1, start + 20, size, start, 16) + whole
