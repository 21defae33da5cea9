"""The slots of a session: what is accepted, what sends, and that renewing loses nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunmesh.session.keypair import Keypair
from tunmesh.session.session import Session
from tunmesh.session.suites import AES256GCM
from tunmesh.session.timing import Timing

TIMING = Timing()
SMALL, LARGE = b"\1" * 32, b"\2" * 32


def keypair(
    *, initiator: bool, created: float = 0.0, index: int = 1, boot_id: bytes = b"boot id!"
) -> Keypair:
    return Keypair(
        local_index=index,
        remote_index=index,
        suite=AES256GCM,
        initiator=initiator,
        created=created,
        boot_id=boot_id,
        send_secret=bytes(32),
        recv_secret=bytes(32),
    )


def session(*, smaller: bool = True) -> Session:
    return Session(SMALL, LARGE, TIMING) if smaller else Session(LARGE, SMALL, TIMING)


def test_the_initiator_sends_at_once() -> None:
    here, one = session(), keypair(initiator=True)
    assert here.sending(0.0) is None
    assert here.install(one, 0.0) == []
    assert here.current is here.sending(0.0) is one
    assert here.authenticated(one, 0.0) == []
    assert one.confirmed


def test_the_responder_waits_for_a_first_unit() -> None:
    here, one = session(), keypair(initiator=False)
    here.install(one, 0.0)
    assert here.next is one
    assert here.sending(0.0) is None
    assert here.authenticated(one, 0.1) == []
    assert here.sending(0.1) is one
    assert here.next is None


def test_renewing_keeps_the_old_keypair_acceptable() -> None:
    here = session()
    old, new, newest = (keypair(initiator=True, created=120.0 * n) for n in range(3))
    here.install(old, 0.0)
    here.install(new, 120.0)
    assert (here.previous, here.current) == (old, new)
    assert here.expire(179.9) == []
    assert here.expire(180.0) == [old]
    here.install(newest, 240.0)
    assert here.keypairs() == [new, newest]


def test_at_most_two_old_keypairs_are_kept() -> None:
    here = session()
    keypairs = [keypair(initiator=True, created=float(n)) for n in range(4)]
    fallen = [here.install(one, one.created) for one in keypairs]
    assert fallen == [[], [], [], [keypairs[0]]]


def test_requests_in_flight_all_leave_a_keypair() -> None:
    here = session()
    keypairs = [keypair(initiator=False, created=n * 0.25) for n in range(9)]
    fallen = [one for keypair in keypairs for one in here.install(keypair, keypair.created)]
    assert fallen == keypairs[:1]
    assert here.next is keypairs[-1]
    # The initiator took the response to the fourth; what it began before that it gave up.
    assert here.authenticated(keypairs[3], 3.0) == keypairs[1:3]
    assert here.current is keypairs[3]
    assert here.keypairs() == keypairs[3:]
    # What is still waiting is of no use, and no harm.
    assert here.authenticated(keypairs[3], 3.1) == []
    assert here.expire(200.0) == keypairs[3:]
    assert here.keypairs() == []


def test_a_keypair_that_fell_out_changes_nothing() -> None:
    here = session()
    assert here.authenticated(keypair(initiator=False), 0.0) == []
    assert here.current is None


@pytest.mark.parametrize("smaller", [True, False])
@pytest.mark.parametrize("order", ["response first", "unit first"])
def test_simultaneous_open_ends_on_the_smaller_keys_session(smaller: bool, order: str) -> None:
    here = session(smaller=smaller)
    ours, theirs = keypair(initiator=True), keypair(initiator=False, created=0.2)
    here.install(theirs, 0.2)
    if order == "response first":
        here.install(ours, 0.3)
        here.authenticated(theirs, 0.4)
    else:
        here.authenticated(theirs, 0.3)
        here.install(ours, 0.4)
    assert here.current is (ours if smaller else theirs)
    assert here.previous is (theirs if smaller else ours)


def test_a_restarted_peer_is_not_held_to_the_session_it_lost() -> None:
    here, ours = session(smaller=True), keypair(initiator=True)
    theirs = keypair(initiator=False, created=1.0, boot_id=b"new boot")
    here.install(ours, 0.0)
    here.install(theirs, 1.0)
    here.authenticated(theirs, 1.1)
    assert here.current is theirs


def test_a_later_handshake_of_the_other_side_wins_whoever_is_smaller() -> None:
    here, ours = session(smaller=True), keypair(initiator=True)
    theirs = keypair(initiator=False, created=165.0)
    here.install(ours, 0.0)
    here.install(theirs, 165.0)
    here.authenticated(theirs, 165.1)
    assert here.current is theirs


def test_an_exhausted_keypair_is_not_preferred() -> None:
    here, ours = session(smaller=True), keypair(initiator=True)
    theirs = keypair(initiator=False, created=0.5)
    here.install(ours, 0.0)
    ours.sent_bytes = TIMING.reject_bytes
    here.install(theirs, 0.5)
    here.authenticated(theirs, 0.6)
    assert here.sending(0.6) is theirs


def test_when_a_handshake_is_needed() -> None:
    here = session()
    assert here.needs_handshake(0.0)
    theirs = keypair(initiator=False, created=0.0)
    here.install(theirs, 0.0)
    assert not here.needs_handshake(0.9)  # theirs is about to be confirmed
    assert here.needs_handshake(1.0)
    here.authenticated(theirs, 1.0)
    assert not here.needs_handshake(164.9)
    assert here.needs_handshake(165.0)
    ours = keypair(initiator=True, created=165.0)
    here.install(ours, 165.1)
    assert not here.needs_handshake(284.9)
    assert here.needs_handshake(285.0)
    ours.sent_bytes = TIMING.reject_bytes
    assert here.sending(200.0) is None
    assert here.needs_handshake(200.0)


def test_close_returns_everything() -> None:
    here = session()
    keypairs = [keypair(initiator=True, created=0.0), keypair(initiator=True, created=1.0)]
    waiting = keypair(initiator=False, created=2.0)
    for one in (*keypairs, waiting):
        here.install(one, one.created)
    assert here.close() == [*keypairs, waiting]
    assert here.close() == []
    assert here.sending(2.0) is None


@dataclass
class Side:
    """One end of `Pair`: a session and the indices that it accepts."""

    session: Session
    smaller: bool
    accepted: dict[int, Keypair] = field(default_factory=dict)
    newest: float = -1.0

    def install(self, keypair: Keypair, now: float) -> None:
        self.accepted[keypair.local_index] = keypair
        self.free(self.session.install(keypair, now))

    def free(self, fallen: list[Keypair]) -> None:
        for keypair in fallen:
            assert self.accepted.pop(keypair.local_index) is keypair

    def holds_what_it_accepts(self) -> bool:
        held = self.session.keypairs()
        return sorted(self.accepted) == sorted(keypair.local_index for keypair in held)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), rekeys=st.integers(1, 4), both=st.booleans())
def test_renewing_from_either_side_loses_no_unit(seed: int, rekeys: int, both: bool) -> None:
    """Handshakes and units cross a network that keeps the order; every unit is accepted."""
    rng = random.Random(seed)
    sides = [Side(session(smaller=True), smaller=True), Side(session(smaller=False), smaller=False)]
    queue: list[tuple[float, int, int, str, int]] = []  # due, number, to whom, what, index
    made: dict[int, float] = {}
    numbers = iter(range(10**6))
    delay = rng.choice([0.01, 0.2, 0.9])

    def post(now: float, to: int, what: str, index: int) -> None:
        queue.append((now + delay, next(numbers), to, what, index))

    for round_ in range(rekeys):
        start = round_ * 120.0
        for who in (0, 1) if both else (rng.randrange(2),):
            for repetition in range(rng.randrange(1, 4)):
                begun = start + rng.random() * 0.5 + repetition * 0.25
                queue.append((begun, next(numbers), who, "begin", 0))
        queue.extend(
            (start + rng.random() * 5, next(numbers), who, "unit", 0)
            for who in (0, 1)
            for _ in range(12)
        )
    units = [0, 0]
    while queue:
        queue.sort()
        now, _, who, what, index = queue.pop(0)
        side = sides[who]
        if what == "begin":
            index = next(numbers)
            made[index] = now
            post(now, 1 - who, "request", index)
        elif what == "request":
            side.install(keypair(initiator=False, created=now, index=index), now)
            post(now, 1 - who, "response", index)
        elif what == "response":
            # As `Handshakes` does: one answer ends all requests that were on their way by then.
            if made[index] > side.newest:
                side.newest = now
                side.install(keypair(initiator=True, created=made[index], index=index), now)
                post(now, 1 - who, "received", index)
        elif what == "unit":
            current = side.session.sending(now)
            if current is not None:
                post(now, 1 - who, "received", current.local_index)
        else:
            units[who] += 1
            received = side.accepted[index]
            side.free(side.session.authenticated(received, now))
        assert side.holds_what_it_accepts()
    first, second = (side.session.current for side in sides)
    assert all(units)
    assert first is not None
    assert second is not None
    if both:
        assert first.local_index == second.local_index
