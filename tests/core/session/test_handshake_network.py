"""Handshakes and sessions of two nodes over a network that loses, repeats and reorders."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.counters import Drops
from tunmesh.identity.keys import NodeKey
from tunmesh.identity.secrets import Keyring
from tunmesh.session.events import Established, KeyLearned, Retry, Send
from tunmesh.session.handshake import Handshakes
from tunmesh.session.keypair import Keypair
from tunmesh.session.session import Session
from tunmesh.session.suites import AES256GCM, CHACHA20POLY1305
from tunmesh.session.timing import Timing

TIMING = Timing()
#: When requests are repeated, as long as there is no session.
SCHEDULE = (0.0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 5.0, 5.0)
DATA = 4
YEAR_NS = 365 * 86_400 * 10**9


@dataclass(frozen=True)
class Fault:
    """What happens to one datagram: delivered after each of these delays, maybe changed."""

    delays: tuple[float, ...] = (0.01,)
    flip: int | None = None


@dataclass
class Network:
    """A heap of things to do. The first datagrams meet the faults given, the others none."""

    faults: list[Fault]
    default: Fault = field(default_factory=Fault)
    now: float = 0.0
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), action))

    def send(self, data: bytes, to: Callable[[bytes], None]) -> None:
        fault = self.faults.pop(0) if self.faults else self.default
        if fault.flip is not None:
            position = fault.flip % len(data)
            data = data[:position] + bytes((data[position] ^ 0x10,)) + data[position + 1 :]
        for delay in fault.delays:
            self.call_at(self.now + delay, lambda: to(data))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = until


class Peer:
    """A node that wants a session with its only peer, and then sends it something each second."""

    def __init__(
        self, network: Network, number: int, *, wall_ns: int, under_load: bool, hardware_aes: bool
    ) -> None:
        self.network = network
        self.key = NodeKey.from_seed(bytes((number,)) * 32)
        self.drops = Drops()
        self.endpoint = f"udp://10.0.0.{number}:4567"
        self.wall_ns = wall_ns
        self.handshakes = Handshakes(
            self.key,
            Keyring([b"secret"], "tunmesh"),
            boot_id=bytes((number,)) * 8,
            suites=(AES256GCM, CHACHA20POLY1305),
            hardware_aes=hardware_aes,
            max_datagram=1400,
            wall_ns=lambda: self.wall_ns + int(network.now * 10**9),
            timing=TIMING,
            drops=self.drops,
            force_under_load=under_load,
            index_used=lambda index: index in self.keypairs,
        )
        self.keypairs: dict[int, Keypair] = {}
        self.static = b""
        self.units = 0
        self.unknown = 0
        self.peer: Peer

    def meet(self, peer: Peer) -> None:
        self.peer = peer
        self.session = Session(self.key.x25519_public, peer.key.x25519_public, TIMING)

    def seek(self, attempt: int = 0) -> None:
        """Ask for the key, then for a session, until there is one."""
        if self.session.sending(self.network.now) is None and attempt < len(SCHEDULE):
            self._ask()
            self.network.call_at(
                self.network.now + SCHEDULE[attempt], lambda: self.seek(attempt + 1)
            )

    def _ask(self) -> None:
        now = self.network.now
        if self.static:
            self._send(self.handshakes.initiate(self.static, now).datagram)
        else:
            self._send(self.handshakes.query(now)[1])

    def _send(self, data: bytes) -> None:
        self.network.send(data, self.peer.receive)

    def talk(self) -> None:
        """Send a unit, as keepalives do."""
        keypair = self.session.sending(self.network.now)
        if keypair is not None:
            word = keypair.send_counter << 20 | 17
            keypair.send_counter += 1
            nonce = (keypair.send_iv ^ word).to_bytes(12, "big")
            header = bytes((DATA,)) + keypair.remote_index.to_bytes(4, "big")
            header += word.to_bytes(8, "big")
            self._send(header + keypair.send_aead.encrypt(nonce, b"!", header))

    def keep_talking(self) -> None:
        now = self.network.now
        self._free(self.session.expire(now))
        self.talk()
        if self.session.sending(now) is not None and self.session.needs_handshake(now):
            self._ask()
        self.network.call_at(now + 1.0, self.keep_talking)

    def receive(self, data: bytes) -> None:
        now = self.network.now
        if data[:1] == bytes((DATA,)):
            self._receive_unit(data)
            return
        events = self.handshakes.receive(
            data, self.peer.endpoint[6:].encode(), self.peer.endpoint, now
        )
        assert sum(len(one.datagram) for one in events if isinstance(one, Send)) < len(data)
        for event in events:
            if isinstance(event, Send):
                self._send(event.datagram)
            elif isinstance(event, Established):
                keypair = event.keypair
                assert keypair.local_index not in self.keypairs
                self.keypairs[keypair.local_index] = keypair
                self._free(self.session.install(keypair, now))
                if keypair.initiator:
                    self.talk()
            else:
                assert isinstance(event, (KeyLearned, Retry))
                self.static = event.static
                self._ask()

    def _receive_unit(self, data: bytes) -> None:
        header, sealed = data[:13], data[13:]
        keypair = self.keypairs.get(int.from_bytes(header[1:5], "big"))
        if keypair is None:
            self.unknown += 1
            return
        word = int.from_bytes(header[5:], "big")
        if not keypair.replay.check(word >> 20):
            return
        nonce = (keypair.recv_iv ^ word).to_bytes(12, "big")
        assert keypair.recv_aead.decrypt(nonce, sealed, header) == b"!"
        keypair.replay.mark(word >> 20)
        self._free(self.session.authenticated(keypair, self.network.now))
        self.units += 1

    def _free(self, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            del self.keypairs[keypair.local_index]


def two_peers(
    faults: list[Fault], *, skew: int = 0, loaded: bool = False, hardware: bool = True
) -> tuple[Network, Peer, Peer]:
    network = Network(faults)
    a = Peer(network, 1, wall_ns=50 * YEAR_NS, under_load=False, hardware_aes=True)
    b = Peer(network, 2, wall_ns=50 * YEAR_NS + skew, under_load=loaded, hardware_aes=hardware)
    a.meet(b)
    b.meet(a)
    return network, a, b


DELAYS = st.lists(st.sampled_from([0.01, 0.02, 0.3, 0.8]), max_size=3).map(tuple)
FAULTS = st.lists(st.builds(Fault, delays=DELAYS), max_size=10)


@settings(max_examples=60)
@given(
    faults=FAULTS,
    both=st.booleans(),
    loaded=st.booleans(),
    hardware=st.booleans(),
    skew=st.sampled_from([0, YEAR_NS, -YEAR_NS]),
)
def test_a_session_comes_up_whatever_happens_to_ten_datagrams(
    faults: list[Fault], both: bool, loaded: bool, hardware: bool, skew: int
) -> None:
    network, a, b = two_peers(faults, skew=skew, loaded=loaded, hardware=hardware)
    for peer in (a, b) if both else (a,):
        peer.seek()
    for peer in (a, b):
        peer.keep_talking()
    network.run(15.0)
    before = (a.units, b.units)
    network.run(25.0)
    # Each is heard by the other, under keypairs that both hold, once the faults are over.
    assert a.units - before[0] >= 9
    assert b.units - before[1] >= 9
    assert a.session.current is not None
    assert b.session.current is not None
    assert {a.session.current.suite, b.session.current.suite} == {
        AES256GCM if hardware else CHACHA20POLY1305
    }
    for peer in (a, b):
        assert sorted(peer.keypairs) == sorted(
            keypair.local_index for keypair in peer.session.keypairs()
        )
        peer.handshakes.expire(40.0)
        assert peer.handshakes.half_open == 0


@settings(max_examples=30)
@given(flips=st.lists(st.integers(17, 10**6), min_size=1, max_size=8))
def test_changed_datagrams_are_lost_datagrams(flips: list[int]) -> None:
    network, a, b = two_peers([Fault(flip=flip) for flip in flips])
    a.seek()
    network.run(15.0)
    a.talk()
    network.run(16.0)
    b.talk()
    network.run(17.0)
    assert a.units
    assert b.units


@given(st.integers(0, 3))
def test_silence_times_out_without_a_trace(delivered: int) -> None:
    network, a, b = two_peers([Fault()] * delivered)
    network.default = Fault(delays=())
    a.seek()
    network.run(60.0)
    for peer in (a, b):
        peer.handshakes.expire(60.0)
        assert peer.handshakes.half_open == 0
        peer._free(peer.session.expire(400.0))
        assert not peer.keypairs
    assert a.handshakes.counters["unanswered"] >= (9 if a.static else 0)


@settings(max_examples=15)
@given(both=st.booleans(), delay=st.sampled_from([0.01, 0.4, 1.5]))
def test_renewing_loses_nothing(both: bool, delay: float) -> None:
    network, a, b = two_peers([])
    network.default = Fault(delays=(delay,))
    for peer in (a, b) if both else (a,):
        peer.seek()
    for peer in (a, b):
        peer.keep_talking()
    network.run(20.0)
    start, sent = (a.units, b.units), 580
    network.run(20.0 + sent)
    for peer, units in ((a, start[0]), (b, start[1])):
        assert peer.unknown == 0
        assert peer.units - units >= sent - 2
        assert peer.session.current is not None
        assert peer.session.current.created > 400
