"""Which transport serves an endpoint, which handles are in use, where this node is."""

from __future__ import annotations

import pytest

from tests.core.fakes import RecordingTransport
from tunmesh.errors import EndpointError
from tunmesh.mesh.carriers import Carriers


class Transport(RecordingTransport):
    """A transport of some schemes, at some endpoints."""

    def __init__(self, *schemes: str, at: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.schemes = frozenset(schemes)
        self.at = at

    def local_endpoints(self) -> tuple[str, ...]:
        return self.at


def test_the_first_transport_of_a_scheme_serves_it() -> None:
    carriers = Carriers(())
    first, second = Transport("udp"), Transport("udp", "tcp")
    carriers.add(first)
    carriers.add(second)
    assert carriers.transports == [first, second]
    assert carriers.of("udp://192.0.2.1:1") is first
    assert carriers.of("tcp://192.0.2.1:1") is second
    assert carriers.of("https://192.0.2.1") is None
    assert carriers.of("udp") is first
    assert carriers.connect("tcp://192.0.2.1:1").transport is second
    with pytest.raises(EndpointError, match=r"no transport serves https://192\.0\.2\.1"):
        carriers.connect("https://192.0.2.1")


def test_a_handle_is_adopted_by_its_first_user_and_released_by_its_last() -> None:
    carriers = Carriers(())
    transport = Transport("udp")
    carriers.add(transport)
    handle = carriers.connect("udp://192.0.2.1:1")
    assert not carriers.uses(handle)
    carriers.adopt(handle)
    carriers.adopt(handle)
    assert transport.adopted == [handle]
    carriers.release(handle)
    assert (transport.adopted, carriers.uses(handle)) == ([handle], True)
    carriers.release(handle)
    assert (transport.adopted, carriers.uses(handle)) == ([], False)
    carriers.release(handle)  # more often than adopted
    carriers.adopt(handle)
    assert transport.adopted == [handle]


def test_a_handle_that_its_transport_forgot_is_not_released() -> None:
    carriers = Carriers(())
    transport = Transport("udp")
    carriers.add(transport)
    handle = carriers.connect("udp://192.0.2.1:1")
    carriers.adopt(handle)
    carriers.closed(handle)
    carriers.closed(handle)
    assert not carriers.uses(handle)
    carriers.release(handle)
    assert transport.adopted == [handle]


def test_endpoints_in_the_order_of_preference() -> None:
    carriers = Carriers(())
    carriers.add(Transport("udp", at=("udp://192.0.2.1:1", "udp://192.0.2.2:1")))
    carriers.add(Transport("tcp", at=("tcp://192.0.2.1:1", "udp://192.0.2.2:1")))
    assert carriers.endpoints() == (
        "udp://192.0.2.1:1",
        "udp://192.0.2.2:1",
        "tcp://192.0.2.1:1",
    )


def test_what_others_saw_is_announced_too() -> None:
    carriers = Carriers(())
    carriers.add(Transport("udp", at=("udp://192.0.2.1:1",)))
    assert carriers.saw("udp://198.51.100.1:1")
    assert not carriers.saw("udp://198.51.100.1:1")
    assert not carriers.saw("udp://192.0.2.1:1")
    assert not carriers.saw(None)
    assert carriers.endpoints() == ("udp://192.0.2.1:1", "udp://198.51.100.1:1")


def test_what_others_saw_is_bounded() -> None:
    carriers = Carriers(())
    seen = [carriers.saw(f"udp://198.51.100.1:{port}") for port in range(1, 10)]
    assert seen == [True] * 4 + [False] * 5
    assert len(carriers.endpoints()) == 4


def test_advertised_endpoints_replace_the_transports_own() -> None:
    carriers = Carriers(("udp://203.0.113.1:1",))
    carriers.add(Transport("udp", at=("udp://192.0.2.1:1",)))
    assert carriers.endpoints() == ("udp://203.0.113.1:1",)
    assert carriers.saw("udp://192.0.2.1:1")
    assert carriers.endpoints() == ("udp://203.0.113.1:1", "udp://192.0.2.1:1")
