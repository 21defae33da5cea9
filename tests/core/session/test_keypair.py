"""Keypairs: directions, limits."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from tunmesh.session.keypair import Keypair
from tunmesh.session.replay import COUNTER_LIMIT
from tunmesh.session.suites import AES256GCM, NAMES
from tunmesh.session.timing import Timing

ONE, TWO = b"1" * 32, b"2" * 32
TIMING = Timing()


def keypair(*, initiator: bool = True, suite: int = AES256GCM, created: float = 0.0) -> Keypair:
    return Keypair(
        local_index=1,
        remote_index=2,
        suite=suite,
        initiator=initiator,
        created=created,
        boot_id=bytes(8),
        send_secret=ONE if initiator else TWO,
        recv_secret=TWO if initiator else ONE,
    )


@pytest.mark.parametrize("suite", sorted(NAMES))
def test_what_one_side_seals_the_other_opens(suite: int) -> None:
    here, there = keypair(suite=suite), keypair(suite=suite, initiator=False)
    for sender, receiver in ((here, there), (there, here)):
        word = 5 << 20 | 21
        assert sender.send_iv == receiver.recv_iv
        nonce = (sender.send_iv ^ word).to_bytes(12, "big")
        sealed = sender.send_aead.encrypt(nonce, b"hello", b"header")
        assert receiver.recv_aead.decrypt(nonce, sealed, b"header") == b"hello"
        with pytest.raises(InvalidTag):
            sender.recv_aead.decrypt(nonce, sealed, b"header")
    assert here.send_iv != here.recv_iv


def test_age_ends_it() -> None:
    one = keypair(created=10.0)
    assert not one.exhausted(189.9, TIMING)
    assert one.exhausted(190.0, TIMING)
    assert one.expired(190.0, TIMING)
    assert not one.expired(189.9, TIMING)


def test_bytes_and_counter_end_sending_only() -> None:
    one = keypair()
    one.sent_bytes = TIMING.reject_bytes
    assert one.exhausted(1.0, TIMING)
    assert not one.expired(1.0, TIMING)
    two = keypair()
    two.send_counter = COUNTER_LIMIT - 1
    assert not two.exhausted(1.0, TIMING)
    two.send_counter += 1
    assert two.exhausted(1.0, TIMING)


def test_the_initiator_renews_first() -> None:
    here, there = keypair(), keypair(initiator=False)
    assert [here.wants_rekey(now, TIMING) for now in (119.9, 120.0)] == [False, True]
    assert [there.wants_rekey(now, TIMING) for now in (164.9, 165.0)] == [False, True]
    here.received_bytes = there.sent_bytes = TIMING.rekey_bytes
    assert here.wants_rekey(1.0, TIMING)
    assert not there.wants_rekey(1.0, TIMING)
    there.sent_bytes = TIMING.responder_rekey_bytes
    assert there.wants_rekey(1.0, TIMING)
    assert TIMING.rekey_bytes < TIMING.responder_rekey_bytes < TIMING.reject_bytes


def test_it_does_not_show_its_keys() -> None:
    one = keypair()
    assert repr(one) == "<Keypair 00000001 initiator>"
    one.confirmed = True
    assert repr(one) == "<Keypair 00000001 initiator confirmed>"
    assert not hasattr(one, "__dict__")
