"""A peer: its handshakes, what it says and hears, when it is up and when it is down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.fakes import RecordingTransport, items, keypairs, units
from tests.core.peering.services import FakeServices
from tunmesh.errors import BadPacket
from tunmesh.interfaces.transport import PathHandle
from tunmesh.peering.path import probe_reply_untrusted
from tunmesh.peering.peer import Peer
from tunmesh.session.events import Remote
from tunmesh.session.keypair import Keypair
from tunmesh.session.units import CONFIRM, CONTROL, PAD, PROBE, PROBE_REPLY

ID = "a" * 32
OWN, STATIC = b"0" * 32, b"1" * 32
AT = "test://there:1"


class Bench:
    """A peer, and the other ends of its keypairs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.services = FakeServices()
        self.peer = Peer(ID, STATIC, OWN, self.services, self.now)
        self.theirs: dict[int, Keypair] = {}

    @property
    def transport(self) -> RecordingTransport:
        return self.services.transport

    def handle(self, endpoint: str = AT) -> PathHandle:
        return self.transport.connect(endpoint)

    def keypair(self, *, initiator: bool = True, boot_id: bytes = b"first...") -> Keypair:
        """This side's end of a handshake that just finished."""
        number = 10 + 2 * len(self.theirs)
        one, two = keypairs(first=number, second=number + 1, created=self.now, seed=b"%d" % number)
        ours, theirs = (one, two) if initiator else (two, one)
        self.theirs[theirs.local_index] = theirs
        ours.boot_id = boot_id
        return ours

    def establish(
        self, *, initiator: bool = True, endpoint: str = AT, boot_id: bytes = b"first..."
    ) -> Keypair:
        keypair = self.keypair(initiator=initiator, boot_id=boot_id)
        observed = "test://seen:9" if initiator else None
        remote = Remote(STATIC, ID, boot_id, 3, 0, 1472, observed)
        self.peer.established(keypair, remote, self.handle(endpoint), self.now)
        return keypair

    def is_up(self) -> bool:
        return self.peer.up

    def is_dialing(self) -> bool:
        return self.peer.dialing

    def up(self) -> Keypair:
        """Have a session with a live path."""
        keypair = self.establish()
        self.taken()
        self.services.take()
        return keypair

    def taken(self) -> list[tuple[str, int, bytes]]:
        """What was sent since the last call: endpoint, kind of item, body."""
        found = []
        for sent in self.transport.sends:
            for datagram in sent.datagrams:
                if datagram[0] == 1:
                    found.append((sent.handle.endpoint, -1, datagram))
                    continue
                index = int.from_bytes(datagram[4:8], "big")
                (plain,) = units([datagram], self.theirs[index])
                found += [(sent.handle.endpoint, kind, body) for kind, body in items(plain)]
        self.transport.sends.clear()
        return found

    def initiations(self) -> list[str]:
        """Where initiations were sent since the last call."""
        return [endpoint for endpoint, kind, _ in self.taken() if kind == -1]

    def item(self, kind: int, body: bytes, endpoint: str = AT) -> None:
        keypair = self.peer.session.current
        assert keypair is not None
        self.peer.item(keypair, self.handle(endpoint), kind, body, self.now)

    def answer_probes(self, *, but: str = "") -> int:
        """Answer every probe that was sent, and tell how many there were."""
        probes = [(endpoint, body) for endpoint, kind, body in self.taken() if kind == PROBE]
        for endpoint, token in probes:
            if endpoint != but:
                reply = probe_reply_untrusted(token, 1, 0, 0, overrun=False)
                self.item(PROBE_REPLY, reply, endpoint)
        return len(probes)

    def advance(self, until: float, *, answering: bool = True) -> None:
        """Let time pass, doing what is due."""
        while (deadline := self.peer.next_deadline()) <= until:
            self.now = max(self.now, deadline)
            self.peer.handle_timer(self.now)
            if answering:
                self.answer_probes()
        self.now = until


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Handshakes


def test_at_first_nothing_is_done(bench: Bench) -> None:
    assert not bench.is_up()
    assert not bench.is_dialing()
    assert repr(bench.peer) == "<Peer aaaaaaaa connecting>"
    assert bench.peer.next_deadline() == 101.0


def test_dialing_tries_every_endpoint_again_and_again(bench: Bench) -> None:
    bench.transport.unreachable = {"test://v6:1"}
    bench.peer.set_endpoints([AT, "test://v6:1", "test://nat:1"], bench.now)
    bench.peer.dial(bench.now)
    assert bench.is_dialing()
    assert bench.services.rescheduled == 1
    times: list[float] = []
    while len(times) < 6:
        bench.now = bench.peer.next_deadline()
        bench.peer.handle_timer(bench.now)
        if endpoints := bench.initiations():
            assert endpoints == [AT, "test://nat:1"]
            times.append(bench.now - 100.0)
    assert times == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0]
    assert bench.services.told == [("suspect",)]  # with the sixth try: look elsewhere, too


def test_dialing_again_changes_nothing(bench: Bench) -> None:
    bench.peer.set_endpoints([AT], bench.now)
    bench.peer.dial(bench.now, delay=0.5)
    bench.peer.dial(bench.now)
    bench.peer.handle_timer(100.4)
    assert bench.initiations() == []
    bench.peer.handle_timer(100.5)
    assert bench.initiations() == [AT]


def test_haste(bench: Bench) -> None:
    bench.peer.set_endpoints([AT], bench.now)
    bench.peer.dial(bench.now, delay=0.5)
    bench.peer.hasten(bench.now)
    bench.peer.handle_timer(bench.now)
    assert bench.initiations() == [AT]
    bench.advance(130.0)
    bench.initiations()
    bench.peer.hasten(130.0)
    bench.peer.handle_timer(130.0)
    assert bench.initiations() == [AT]
    for tenth in range(9):  # however many packets wait, once a second is enough
        bench.peer.hasten(130.0 + tenth / 10)
        bench.peer.handle_timer(130.0 + tenth / 10)
    assert bench.initiations() == []
    bench.peer.handle_timer(131.0)
    assert bench.initiations() == [AT]


def test_a_key_that_cannot_be(bench: Bench) -> None:
    bench.services.refuse = True
    bench.peer.set_endpoints([AT], bench.now)
    bench.peer.dial(bench.now)
    bench.peer.handle_timer(bench.now)
    bench.peer.retry(bench.handle(), bench.now)
    assert bench.taken() == []


def test_a_retry_goes_to_where_it_was_asked_for(bench: Bench) -> None:
    bench.peer.retry(bench.handle("test://cookie:1"), bench.now)
    assert bench.taken() == []
    bench.peer.dial(bench.now)
    bench.peer.retry(bench.handle("test://cookie:1"), bench.now)
    assert bench.initiations() == ["test://cookie:1"]


def test_an_initiator_is_up_at_once(bench: Bench) -> None:
    bench.peer.dial(bench.now)
    keypair = bench.establish()
    assert bench.is_up()
    assert not bench.is_dialing()
    assert keypair.peer is bench.peer.port
    assert bench.services.installed == [keypair]
    assert bench.peer.observed == "test://seen:9"
    assert bench.taken() == [(AT, CONFIRM, b"")]
    assert bench.services.take() == [
        ("path", AT, "handshake"),
        ("up",),
        ("flush",),
        ("heard",),
    ]
    port = bench.peer.port
    assert (port.tx_keypair, port.rx_keypair) == (keypair, keypair)
    assert port.handle is port.rx_handle is bench.handle()
    assert (port.slice_size, port.bulk_limit) == (1456, 0)
    assert repr(bench.peer) == "<Peer aaaaaaaa up>"


def test_a_responder_commits_nothing_before_the_first_unit(bench: Bench) -> None:
    keypair = bench.establish(initiator=False)
    assert bench.services.installed == [keypair]
    assert not bench.is_up()
    assert (bench.peer.port.tx_keypair, bench.peer.port.handle) == (None, None)
    assert list(bench.peer.paths) == []
    assert (bench.taken(), bench.services.take()) == ([], [])
    bench.peer.heard(keypair, bench.handle(), bench.now)
    assert bench.is_up()
    assert bench.peer.port.tx_keypair is keypair
    assert bench.peer.port.handle is bench.handle()
    assert bench.peer.observed is None
    assert ("up",) in bench.services.told


def test_a_first_unit_from_elsewhere_proves_no_path(bench: Bench) -> None:
    keypair = bench.establish(initiator=False)
    bench.peer.heard(keypair, bench.handle("test://copy:1"), bench.now)
    assert not bench.is_up()
    assert [endpoint for endpoint, kind, _ in bench.taken() if kind == PROBE] == ["test://copy:1"]


def test_handshakes_that_wait_are_bounded(bench: Bench) -> None:
    waiting = [bench.establish(initiator=False) for _ in range(20)]
    assert len(bench.services.installed) == 8
    assert list(bench.peer._confirming) == waiting[12:]
    bench.peer.heard(waiting[15], bench.handle(), bench.now)
    assert bench.is_up()


def test_a_renewed_session_stays_up(bench: Bench) -> None:
    bench.up()
    bench.now += 120.0
    keypair = bench.establish()
    assert bench.peer.port.tx_keypair is keypair
    assert ("up",) not in bench.services.told
    assert ("down",) not in {told[:1] for told in bench.services.told}


def test_another_process_starts_over(bench: Bench) -> None:
    bench.up()
    bench.peer.send(b"lost", bench.now)
    assert bench.peer.channel.backlog == 1
    bench.establish(boot_id=b"second..")
    assert bench.peer.channel.backlog == 0
    assert [told for told in bench.services.take() if told[0] in {"up", "down"}] == [
        ("down", "restarted"),
        ("up",),
    ]
    assert bench.is_up()
    assert not bench.is_dialing()


def test_the_same_process_does_not(bench: Bench) -> None:
    bench.up()
    bench.peer.send(b"kept", bench.now)
    bench.establish()
    assert bench.peer.channel.backlog == 1


def test_a_rekey_is_tried_on_the_active_path_first(bench: Bench) -> None:
    bench.peer.set_endpoints([AT, "test://two:1"], bench.now)
    bench.up()
    bench.peer.dial(bench.now)
    tried = []
    for _ in range(5):
        bench.now += 5.0
        bench.peer.handle_timer(bench.now)
        tried.append(bench.initiations())
        bench.peer.paths.active = bench.peer.paths.get(bench.handle())
    assert tried == [[AT]] * 3 + [[AT, "test://two:1"]] * 2


# Endpoints


def test_endpoints_are_bounded(bench: Bench) -> None:
    endpoints = [f"test://{number}:1" for number in range(10)]
    bench.peer.set_endpoints(endpoints, bench.now)
    assert [bench.peer.has_endpoint(endpoint) for endpoint in endpoints] == [True] * 6 + [False] * 4
    bench.peer.add_endpoint("test://more:1")
    assert not bench.peer.has_endpoint("test://more:1")
    bench.peer.set_endpoints(endpoints[:2], bench.now)
    bench.peer.add_endpoint("test://more:1")
    assert bench.peer.has_endpoint("test://more:1")
    assert not bench.peer.has_endpoint(endpoints[5])


def test_a_path_is_an_endpoint_too(bench: Bench) -> None:
    bench.up()
    assert bench.peer.has_endpoint(AT)
    assert not bench.peer.has_endpoint("test://else:1")


def test_new_endpoints_are_tried_while_up(bench: Bench) -> None:
    bench.peer.set_endpoints(["test://two:1"], bench.now)
    assert list(bench.peer.paths) == []
    bench.up()
    assert {path.handle.endpoint for path in bench.peer.paths} == {AT, "test://two:1"}
    before = bench.services.rescheduled
    bench.peer.set_endpoints(["test://two:1"], bench.now)
    assert bench.services.rescheduled == before
    bench.peer.set_endpoints(["test://three:1"], bench.now)
    assert bench.services.rescheduled == before + 1
    assert {path.handle.endpoint for path in bench.peer.paths} == {
        AT, "test://two:1", "test://three:1",
    }  # fmt: skip


# Probes


def test_a_probe_is_answered_with_what_was_received(bench: Bench) -> None:
    keypair = bench.up()
    keypair.replay.mark(9)
    keypair.rx_units, keypair.rx_expected, keypair.rx_got = 7, 20, 18
    bench.item(PROBE, b"8 bytes.", "test://two:1")
    assert bench.taken() == [
        (
            "test://two:1",
            PROBE_REPLY,
            probe_reply_untrusted(b"8 bytes.", keypair.local_index, 23, 18, overrun=False),
        )
    ]
    assert bench.services.take() == [("heard",)]


def test_units_that_came_twice_as_loss_are_not_missed_twice(bench: Bench) -> None:
    keypair = bench.up()
    keypair.replay.mark(2)
    keypair.rx_units, keypair.rx_expected = 5, 5
    bench.item(PROBE, b"8 bytes.")
    ((_, _, body),) = bench.taken()
    assert body == probe_reply_untrusted(b"8 bytes.", keypair.local_index, 5, 0, overrun=False)


def test_own_overruns_are_told_once(bench: Bench) -> None:
    bench.up()
    flags = []
    for lost in (0, 5, 5, 6):
        bench.transport.lost = lost
        bench.item(PROBE, b"8 bytes.")
        ((_, _, body),) = bench.taken()
        flags.append(body[-1])
    assert flags == [0, 1, 0, 1]


def test_a_probe_while_no_path_is_alive_makes_it_be_asked_where_it_came_from(bench: Bench) -> None:
    bench.up()
    bench.item(PROBE, b"8 bytes.", "test://two:1")
    assert [kind for _, kind, _ in bench.taken()] == [PROBE_REPLY]
    bench.peer.path_closed(bench.handle(), "closed", bench.now)
    bench.item(PROBE, b"8 bytes.", "test://two:1")
    sent = [(endpoint, kind) for endpoint, kind, _ in bench.taken() if kind != -1]
    assert sent == [("test://two:1", PROBE_REPLY), ("test://two:1", PROBE)]


def test_an_answer_there_makes_it_live_again(bench: Bench) -> None:
    bench.up()
    bench.peer.path_closed(bench.handle(), "closed", bench.now)
    assert not bench.is_up()
    bench.item(PROBE, b"8 bytes.", "test://two:1")
    bench.answer_probes()
    assert bench.is_up()
    assert bench.peer.port.handle is bench.handle("test://two:1")
    assert not bench.is_dialing()


def test_an_answer_may_come_along_another_path(bench: Bench) -> None:
    bench.peer.set_endpoints([AT, "test://two:1"], bench.now)
    bench.up()
    bench.peer.ask(bench.now)
    probes = {endpoint: body for endpoint, kind, body in bench.taken() if kind == PROBE}
    assert set(probes) == {AT, "test://two:1"}
    reply = probe_reply_untrusted(probes["test://two:1"], 1, 0, 0, overrun=False)
    bench.item(PROBE_REPLY, reply, AT)
    two = bench.peer.paths.get(bench.handle("test://two:1"))
    assert two is not None
    assert two.state == "up"
    assert bench.services.take() == [("heard",)]
    bench.item(PROBE_REPLY, reply, AT)
    assert bench.services.take() == []


def test_something_from_elsewhere_makes_it_be_asked_there(bench: Bench) -> None:
    keypair = bench.up()
    before = bench.services.rescheduled
    elsewhere = bench.handle("test://moved:1")
    bench.peer.heard(keypair, elsewhere, bench.now)
    assert [(endpoint, kind) for endpoint, kind, _ in bench.taken()] == [("test://moved:1", PROBE)]
    assert bench.services.rescheduled == before + 1
    assert bench.peer.port.rx_handle is bench.handle()
    bench.peer.paths.proven(bench.peer.paths.ensure(elsewhere, bench.now), bench.now, "handshake")
    bench.peer.heard(keypair, elsewhere, bench.now)
    assert bench.peer.port.rx_handle is elsewhere
    assert bench.taken() == []


def test_traffic_under_an_older_keypair_is_expected_too(bench: Bench) -> None:
    old = bench.up()
    bench.establish()
    bench.peer.heard(old, bench.handle(), bench.now)
    assert bench.peer.port.rx_keypair is old


# Control messages


def test_messages_are_sent_and_acknowledged(bench: Bench) -> None:
    bench.up()
    bench.peer.send(b"hello", bench.now)
    assert bench.peer.next_deadline() <= bench.now
    bench.peer.handle_timer(bench.now)
    ((endpoint, _, body),) = [sent for sent in bench.taken() if sent[1] == CONTROL]
    assert endpoint == AT
    assert body.endswith(b"hello")
    bench.item(CONTROL, b"\x02" + body[1:13])
    assert bench.peer.channel.backlog == 0


def test_a_message_is_told_once_and_acknowledged_at_once(bench: Bench) -> None:
    bench.up()
    message = b"\x01" + bytes(8) + b"\0\0\0\1" + b"hello"
    for told in ([("message", b"hello")], []):
        bench.item(CONTROL, message)
        assert bench.services.take() == told
        assert bench.taken() == [(AT, CONTROL, b"\x02" + message[1:13])]


def test_messages_wait_while_no_path_is_alive(bench: Bench) -> None:
    bench.peer.send(b"hello", bench.now)
    bench.peer.handle_timer(bench.now)
    assert bench.transport.sends == []
    bench.peer._boot_id = b"first..."  # not a new process, for which it would be forgotten
    bench.establish()
    bench.peer.handle_timer(bench.now)
    assert [body[13:] for _, kind, body in bench.taken() if kind == CONTROL] == [b"hello"]


@pytest.mark.parametrize("kind", [CONFIRM, PAD])
def test_items_without_meaning(bench: Bench, kind: int) -> None:
    bench.up()
    bench.item(kind, b"whatever")
    assert (bench.taken(), bench.services.take()) == ([], [])


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=10))
def test_random_items_raise_only_bad_packet(received: list[tuple[int, bytes]]) -> None:
    bench = Bench()
    bench.up()
    for kind, body in received:
        try:
            bench.item(kind, body)
        except BadPacket:
            continue
        assert kind < 6
    assert bench.is_up()


def test_unknown_kinds_are_malformed(bench: Bench) -> None:
    bench.up()
    with pytest.raises(BadPacket, match="kind 77"):
        bench.item(77, b"")


# Up and down


def test_an_idle_peer_that_answers_stays_up(bench: Bench) -> None:
    bench.up()
    bench.advance(220.0)
    assert bench.is_up()
    assert {told[0] for told in bench.services.told} == {"heard"}


@pytest.mark.parametrize("received", [False, True])
def test_traffic_makes_probes_frequent(bench: Bench, received: bool) -> None:
    bench.up()
    bench.advance(bench.now + 5.0)
    counts = []
    for busy in (False, True):
        probes = 0
        end = bench.now + 20.0
        while (deadline := bench.peer.next_deadline()) <= end:
            bench.now = deadline
            bench.peer.port.used = busy and not received
            bench.peer.port.rx_packets += busy and received
            bench.peer.handle_timer(bench.now)
            probes += bench.answer_probes()
        counts.append(probes)
    assert 9 <= counts[0] <= 12
    assert 49 <= counts[1] <= 56


@pytest.mark.parametrize(("few", "least", "most"), [(True, 8, 10), (False, 2, 3)])
def test_a_path_that_has_just_been_chosen_is_probed_often_if_there_are_few(
    bench: Bench, few: bool, least: int, most: int
) -> None:
    bench.services.few_peers = few
    bench.up()
    began = bench.now
    probes = []
    for _ in range(12):
        bench.now = bench.peer.next_deadline()
        bench.peer.handle_timer(bench.now)
        probes += [bench.now - began] * bench.answer_probes()
    assert least <= sum(moment < 3.4 for moment in probes) <= most


def test_use_is_forgotten_when_the_active_path_was_probed(bench: Bench) -> None:
    bench.up()
    bench.peer.port.used = True
    active = bench.peer.paths.active
    assert active is not None
    active.next_probe = bench.now + 0.5
    bench.peer.handle_timer(bench.now + 0.4)
    used = [bench.peer.port.used]
    bench.peer.handle_timer(bench.now + 0.5)
    assert [*used, bench.peer.port.used] == [True, False]
    assert active.next_probe == pytest.approx(bench.now + 0.5 + 0.38)


def test_a_silent_peer_is_suspect_then_down_and_dialed(bench: Bench) -> None:
    bench.up()
    bench.peer.set_endpoints([AT], bench.now)
    bench.advance(100.9, answering=False)
    assert bench.services.take() == []
    bench.advance(103.0, answering=False)
    assert set(bench.services.take()) == {("suspect",)}
    assert bench.is_up()
    bench.advance(103.6, answering=False)
    assert not bench.is_up()
    assert ("down", "no answer") in bench.services.take()
    assert bench.is_dialing()
    assert AT in bench.initiations()
    port = bench.peer.port
    assert (port.handle, port.rx_handle) == (None, None)


def test_a_peer_that_is_not_wanted_is_not_dialed(bench: Bench) -> None:
    bench.up()
    bench.peer.wanted = False
    bench.advance(110.0, answering=False)
    assert not bench.is_up()
    assert not bench.is_dialing()
    assert bench.initiations() == []


def test_unless_packets_want_it(bench: Bench) -> None:
    bench.up()
    bench.peer.wanted = False
    bench.advance(103.0, answering=False)
    bench.peer.port.used = True
    bench.peer.path_closed(bench.handle(), "closed", bench.now)
    assert bench.is_dialing()


@pytest.mark.parametrize(("wanted", "used"), [(True, False), (False, True), (False, False)])
def test_keys_are_renewed_while_somebody_wants_them(bench: Bench, wanted: bool, used: bool) -> None:
    bench.up()
    bench.advance(219.0)
    assert not bench.is_dialing()
    bench.peer.wanted = wanted
    while (deadline := bench.peer.next_deadline()) <= 222.0:
        bench.now = deadline
        bench.peer.port.used = used
        bench.peer.handle_timer(bench.now)
        bench.answer_probes()
    assert bench.is_dialing() == (wanted or used)
    assert bench.is_up()


def test_a_session_that_is_not_renewed_expires(bench: Bench) -> None:
    keypair = bench.up()
    bench.peer.wanted = False
    bench.advance(279.9)
    assert bench.is_up()
    bench.advance(282.0)
    assert not bench.is_up()
    assert ("down", "session expired") in bench.services.take()
    assert bench.services.installed == []
    assert bench.peer.session.current is None
    assert keypair.peer is bench.peer.port


def test_a_handshake_that_was_never_confirmed_expires(bench: Bench) -> None:
    bench.establish(initiator=False)
    bench.advance(282.0)
    assert bench.services.installed == []
    assert bench.peer._confirming == {}


def test_units_that_stay_incomplete_are_counted(bench: Bench) -> None:
    keypair = bench.up()
    reassembler = bench.peer.port.reassembler
    reassembler.add(keypair, 0, 1, 60, 100, bytes(60), bench.now)
    bench.advance(103.0)
    assert bench.services.drops.seen() == {"incomplete": 1}
    reassembler.add(keypair, 0, 1, 60, 100, bytes(60), 400.0)  # gone with its keypair
    bench.peer.wanted = False
    bench.advance(282.0)
    assert len(reassembler) == 0
    assert bench.services.drops.seen() == {"incomplete": 1}


def test_a_closed_path(bench: Bench) -> None:
    bench.peer.set_endpoints([AT, "test://two:1"], bench.now)
    bench.up()
    two = bench.peer.paths.get(bench.handle("test://two:1"))
    assert two is not None
    bench.peer.paths.proven(two, bench.now, "handshake")
    bench.peer.path_closed(bench.handle("test://unknown:1"), "closed", bench.now)
    assert bench.services.take() == []
    bench.peer.path_closed(bench.handle(), "connection reset", bench.now)
    assert bench.peer.port.handle is two.handle
    assert bench.services.take() == [("path", "test://two:1", "connection reset")]
    assert list(bench.peer.paths) == [two]
    bench.peer.path_closed(two.handle, "connection reset", bench.now)
    assert bench.services.take() == [("down", "connection reset")]
    assert list(bench.peer.paths) == []
    assert bench.transport.adopted == []


def test_a_size_that_is_doubted_is_probed_at_once(bench: Bench) -> None:
    bench.transport.probes_mtu = True
    bench.up()
    bench.advance(101.0)
    bench.taken()
    bench.peer.path_doubted(bench.handle("test://unknown:1"), bench.now)
    assert bench.peer.next_deadline() > bench.now
    bench.peer.path_doubted(bench.handle(), bench.now)
    assert bench.peer.next_deadline() == bench.now
    bench.peer.handle_timer(bench.now)
    sizes = [len(body) + 36 for _, kind, body in bench.taken() if kind == PROBE]
    assert sizes == [1472, 1072, 508]
    assert bench.peer.port.slice_size == 1456  # nothing has been shown yet


def test_loss_limits_the_units(bench: Bench) -> None:
    bench.up()
    active = bench.peer.paths.active
    assert active is not None
    active.loss.loss = 0.05
    bench.advance(101.0)
    assert bench.peer.port.bulk_limit == 1456


def test_when_a_peer_may_be_forgotten(bench: Bench) -> None:
    assert not bench.peer.idle(130.0)
    assert bench.peer.idle(130.1)
    bench.up()
    assert not bench.peer.idle(1000.0)
    bench.peer.wanted = False
    bench.advance(120.0)
    bench.item(PAD, b"")
    bench.advance(130.0, answering=False)
    assert not bench.is_up()
    assert not bench.peer.idle(150.0)
    assert bench.peer.idle(150.1)


def test_close(bench: Bench) -> None:
    bench.up()
    bench.establish(initiator=False)
    bench.peer.close()
    assert bench.services.installed == []
    assert bench.transport.adopted == []
    assert (bench.is_up(), bench.peer.wanted) == (False, False)
    assert (bench.peer.port.tx_keypair, bench.peer.port.handle) == (None, None)
