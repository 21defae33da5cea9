from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.dataplane import Port
from tunmesh.peering.carried import Carried, Traffic


def test_nothing_is_carried_before_there_is_a_path() -> None:
    port = Port("b")
    carried = Carried(port)
    port.rx_packets = 3
    assert carried.traffic() == {}
    carried.switch("udp")
    assert carried.traffic() == {}


@given(st.lists(st.tuples(st.sampled_from(["udp", "https"]), st.integers(0, 9)), max_size=30))
def test_each_packet_is_counted_for_one_transport(steps: list[tuple[str, int]]) -> None:
    port = Port("b")
    carried = Carried(port)
    expected = {"udp": 0, "https": 0}
    for transport, packets in steps:
        carried.switch(transport)
        port.tx_packets += packets
        port.tx_bytes += 100 * packets
        expected[transport] += packets
        shown = carried.traffic()
        assert {name: shown.get(name, Traffic()).tx_packets for name in expected} == expected
        assert sum(traffic.tx_bytes for traffic in shown.values()) == port.tx_bytes
