"""The lease, the provider, and the server that it is tried out with."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import anyio
import pytest

from tunmesh.errors import ConfigError
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.plugin import AddressError, Duration
from tunmesh.testing import FakeContext
from tunmesh.testing.conformance import AddressConformance
from tunmesh_address_lease.lease import Lease, decode_untrusted
from tunmesh_address_lease.plugin import Options, tunmesh_address_providers
from tunmesh_address_lease.provider import LeasedAddresses
from tunmesh_address_lease.server import Leases, LeaseServer

POOL = ip_network("10.42.0.0/24")
NETWORKS: tuple[Network, ...] = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
FIRST, SECOND = ip_interface("10.42.0.1/24"), ip_interface("10.42.0.2/24")


class TestLease(AddressConformance):
    plugin = "lease"

    def settings(self, folder: Path) -> Mapping[str, Any]:
        return {"url": "http://127.0.0.1:1"}  # where nobody is: it has no addresses then


class Context(FakeContext):
    """An `AddressContext` that remembers."""

    device = "fake0"
    mesh_networks = NETWORKS

    def __init__(self, options: Options, node_name: str = "node") -> None:
        super().__init__(options, node_name=node_name, name="lease")
        self.published: list[tuple[Interface, ...]] = []
        self.given_up = anyio.Event()

    def set_addresses(self, addresses: Iterable[Interface]) -> None:
        if self.published and not addresses:
            self.given_up.set()
        self.published.append(tuple(addresses))


@pytest.fixture
def server() -> Iterator[LeaseServer]:
    with LeaseServer(("127.0.0.1", 0), Leases([POOL], 600.0), token="s3cret") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("s3cret\n")
    return str(tmp_path / "token")


def test_a_lease_is_renewed_in_the_middle_and_kept_until_its_end() -> None:
    lease = Lease(0.0)
    lease.granted((FIRST,), 100.0, 0.0)
    assert lease.deadline() == 50.0
    now, pauses = 50.0, []
    while lease.deadline() < 100.0:
        lease.failed(now)
        pauses.append(lease.next_attempt - now)
        now = lease.deadline()
        assert not lease.expire(min(now, 99.9))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert lease.expire(100.0)
    assert lease.addresses == ()
    assert not lease.expire(101.0)
    lease.granted((SECOND,), 100.0, 200.0)
    lease.failed(250.0)
    assert lease.next_attempt == 251.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"addresses": [], "seconds": 60}',
        b'{"addresses": ["10.42.0.1/24"], "seconds": 0}',
        b'{"addresses": ["10.42.0.300/24"], "seconds": 60}',
        b'{"addresses": ["192.0.2.1/24"], "seconds": 60}',
        b'{"addresses": ["10.42.0.1/24"]}',
    ],
)
def test_answers_of_no_use_are_value_errors(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_untrusted(body, NETWORKS)


def test_the_server_gives_everybody_an_address_of_their_own() -> None:
    leases = Leases([ip_network("10.42.0.0/30")], 10.0)
    one, two = leases.lease("a", (), 0.0), leases.lease("b", (), 0.0)
    assert one != two
    assert leases.lease("c", (), 0.0) == ()
    assert leases.lease("a", (), 9.0) == one
    assert leases.lease("c", (), 11.0) == two  # that of b is over
    leases.release("a")
    assert leases.lease("d", map(str, one), 11.0) == one


@pytest.mark.anyio
async def test_a_lease_is_taken_renewed_and_returned(server: LeaseServer, token: str) -> None:
    options = Options(url=server.url, token_file=token)
    context, other = Context(options), Context(options, "other")
    async with LeasedAddresses(context) as provider:
        assert context.published == [(FIRST,)]
        await provider.attempt()
        assert context.published == [(FIRST,)]  # nothing changed
        async with LeasedAddresses(other):
            assert other.published == [(SECOND,)]
    async with LeasedAddresses(other):
        assert other.published[1:] == [(FIRST,)]


@pytest.mark.anyio
async def test_a_server_that_is_gone_takes_the_lease_along_only_when_it_is_over(
    server: LeaseServer, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = Context(Options(url=server.url, token_file=token))
    async with anyio.create_task_group() as tasks:
        async with LeasedAddresses(context) as provider:
            server.token = "another"
            await provider.attempt()
            assert context.published == [(FIRST,)]
            assert "the server answered 401" in caplog.text
            context.clock.run_until(context.now() + 601.0)
            tasks.start_soon(context.run_started)
            with anyio.fail_after(5):
                await context.given_up.wait()
            assert context.published[1] == ()
            assert "lease expired" in caplog.text
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_without_a_server_the_node_starts_without_addresses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = Context(Options(url="http://127.0.0.1:1", timeout=Duration("2s")))
    async with LeasedAddresses(context):
        assert context.published == [()]
    assert "no lease" in caplog.text
    assert "\n" not in caplog.messages[0]


@pytest.mark.anyio
async def test_a_token_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    options = Options(token_file=str(tmp_path / "none"))
    with pytest.raises(AddressError, match=r"none: .* \(plugins.lease.token_file\)"):
        async with LeasedAddresses(Context(options)):
            pass


def test_no_time_for_an_answer_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="timeout"):
        Options(timeout=Duration(0))


def test_the_registration() -> None:
    (registration,) = tunmesh_address_providers()
    assert registration.options is Options
    assert isinstance(registration.factory(Context(Options())), LeasedAddresses)
