from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cli.test_doctor import status
from tunmesh.admin.status import PeerStatus, Status
from tunmesh.cli.rates import DEPTH, Rates, bits, sparkline

B, C = "b" * 32, "c" * 32


def sample(drops: int = 0, **peers: tuple[int, int]) -> Status:
    """A document of peers named as their ids begin, each with bytes received and sent."""
    document = status()
    found = tuple(
        PeerStatus(name * 32, name, (), (), "up", "direct", (), 0, 0, received, sent, 0.0)
        for name, (received, sent) in peers.items()
    )
    return Status(
        version="1",
        mesh=document.mesh,
        node=document.node,
        device=document.device,
        plugins=(),
        peers=found,
        routes=(),
        groups=(),
        drops={"no_route": drops},
    )


def test_rates_are_bits_a_second() -> None:
    rates = Rates()
    rates.add(sample(b=(1000, 0), drops=5), 10.0)
    assert rates.peers == {}
    rates.add(sample(b=(2000, 50), drops=9), 12.0)
    assert list(rates.peers[B].received) == [4000.0]
    assert list(rates.peers[B].sent) == [200.0]
    assert list(rates.total.received) == [4000.0]
    assert rates.drops == {"no_route": 2.0}


def test_peers_come_go_and_begin_anew() -> None:
    rates = Rates()
    rates.add(sample(b=(1000, 0)), 0.0)
    rates.add(sample(b=(1000, 0), c=(10**9, 0)), 1.0)
    assert list(rates.peers[C].received) == [0.0]  # what it did before is not of this second
    rates.add(sample(c=(5, 0), drops=0), 2.0)
    assert rates.peers.keys() == {C}
    assert list(rates.peers[C].received) == [0.0, 0.0]


def test_two_documents_of_one_moment() -> None:
    rates = Rates()
    rates.add(sample(b=(0, 0)), 1.0)
    rates.add(sample(b=(1000, 0)), 1.0)
    assert rates.peers == {}


def test_the_history_has_an_end() -> None:
    rates = Rates()
    for moment in range(100):
        rates.add(sample(b=(moment, 0)), float(moment))
    assert len(rates.peers[B].received) == len(rates.total.sent) == DEPTH


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, "0 bit/s"), (999, "999 bit/s"), (17_300_000, "17.3 Mbit/s"), (5e16, "50000.0 Tbit/s")],
)
def test_bits(rate: float, text: str) -> None:
    assert bits(rate) == text


@given(st.lists(st.floats(0, 1e12), max_size=40), st.integers(1, 30))
def test_a_sparkline_has_its_width_and_the_last_values(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == width
    assert len(line.strip()) == min(len(values), width)
    if values and max(values[-width:]) > 0:
        assert "█" in line
