"""The transport on real sockets, both ends in one process."""

from __future__ import annotations

import os
import socket

import anyio
import pytest

from tests.transport_https.nodes import Node, free_port, started, until
from tunmesh.plugin import EndpointError, TransportError, TransportRegistration
from tunmesh.testing import VirtualClock
from tunmesh_transport_https.options import Options
from tunmesh_transport_https.plugin import tunmesh_transports
from tunmesh_transport_https.stream import MAX_DATAGRAM
from tunmesh_transport_https.transport import HttpsTransport
from tunmesh_transport_https.wire import connect, usable_mark


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_datagrams_arrive_with_their_bounds_and_are_answered(host: str) -> None:
    listen = {"options": {"listen": (f"{host}:0",)}}
    async with started(listen, listen) as (a, b):
        there = a.path_to(b)
        assert a.transport.send(there, [b"head", b"body"], 1452)
        assert await b.received(1) == [b"headbody"]
        assert a.transport.send(there, [b"x" * 3000], 1000)
        assert a.transport.send(there, [b"y" * 700, b"y" * 700, b"y" * 300], 500)
        expected = [b"headbody", *[b"x" * 1000] * 3, *[b"y" * 500] * 3, b"y" * 200]
        assert await b.received(8) == expected
        await a.answered_by(b, there)
        assert len({entry.handle for entry in b.inbound.received}) == 1


async def test_a_unit_of_any_size_is_one_message_and_a_frame_of_any_size_one_send() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        assert there.max_datagram == MAX_DATAGRAM == 65535 + 16
        await a.answered_by(b, there)
        largest = bytes(range(256)) * 256
        largest += bytes(MAX_DATAGRAM - len(largest))
        a.send(there, largest)
        assert (await b.received(2))[1] == largest
        assert a.transport.max_segments >= 2
        assert a.transport.max_send >= 65545 + 4 + 16 + 2 * 16
        assert a.transport.send(there, [largest, b"rest"], MAX_DATAGRAM)
        assert (await b.received(4))[2:] == [largest, b"rest"]
        back = b.inbound.received[0].handle
        b.send(back, largest)
        assert (await a.received(2))[1] == largest


async def test_what_is_sent_while_a_stream_opens_is_kept_up_to_a_bound() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        assert a.send(there, b"first", b"second")
        assert not a.send(there, bytes(40_000)), "bulk is not kept"
        assert not a.send(there, *[b"."] * 100)
        received = await b.received(64)
        assert received[:2] == [b"first", b"second"]
        assert len(received) == 64


async def test_what_waited_too_long_for_a_stream_is_not_sent() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        a.send(there, b"old")
        a.clock.advance(5.0)
        a.send(there, b"new")
        assert await b.received(1) == [b"new"]


async def test_an_endpoint_has_one_handle_as_long_as_it_is_used() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        assert a.transport.connect(b.endpoint) is there
        a.transport.release(there)
        assert a.transport.connect(b.endpoint) is there, "it may be wanted again at once"
        await a.answered_by(b, there)
        a.transport.release(there)
        a.clock.advance(16.0)
        await until(lambda: there.stream is None)
        assert a.transport.connect(b.endpoint) is not there
        await until(lambda: b.counts.get("ended") == 1)


async def test_a_stream_that_another_node_dialled_ends_with_it() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        await a.answered_by(b, there)
        back = b.inbound.received[0].handle
        b.transport.adopt(back)
        a.transport._forget(there)
        await until(lambda: b.inbound.closed)
        assert b.inbound.closed == [(back, "closed by the other end")]
        assert b.send(back, b"nobody hears it")
        assert b.counts["send_closed"] == 1


async def test_a_dialled_path_has_a_new_stream_when_the_old_one_ended() -> None:
    async with started({}, {}) as (a, b):
        there = a.path_to(b)
        await a.answered_by(b, there)
        back = b.inbound.received[0].handle
        b.transport.adopt(back)
        b.transport.release(back)
        b.clock.advance(31.0)
        await until(lambda: there.stream is None)
        assert not a.inbound.closed, "it is only a stream that ended"
        a.clock.advance(1.0)
        await a.answered_by(b, there)
        assert b.inbound.received[-1].handle is not back


async def test_nobody_there_costs_attempts_that_become_rarer() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
    async with started({}) as (a,):
        there = a.path_to(f"https://127.0.0.1:{port}")
        assert a.send(there, b"?")
        await until(lambda: a.counts.get("dial_failed") == 1)
        assert a.send(there, b"?")
        assert not there.dialing
        a.clock.advance(0.4)
        a.send(there, b"?")
        await until(lambda: a.counts.get("dial_failed") == 2)
        a.clock.advance(0.35)
        a.send(there, b"?")
        assert not there.dialing, "the second pause is longer"


async def test_a_url_stands_for_the_endpoints_of_who_answers() -> None:
    async with started({}, {"options": {"listen": ("127.0.0.1:0", "127.0.0.2:0")}}) as (a, b):
        found = await a.transport.resolve(b.url)
        assert found == (*b.transport.local_endpoints(), b.url)
        assert len(found) == 3
        assert all("#" in endpoint for endpoint in found[:2])


async def test_a_url_is_asked_again_while_nobody_is_there() -> None:
    async with started({}) as (a,):
        found: list[str] = []

        async def resolve() -> None:
            found.extend(await a.transport.resolve(f"https://127.0.0.1:{port}"))

        port = free_port()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resolve)
            await anyio.sleep(0.1)
            late = Node(tasks, "z", options={"listen": (f"127.0.0.1:{port}",)})
            async with late.transport:
                await until(lambda: found)
                assert found == [late.endpoint, late.url]


async def test_a_url_that_leads_to_oneself_stands_for_itself() -> None:
    async with started({}) as (a,):
        assert await a.transport.resolve(a.url) == (a.url,)
        there = a.path_to(a.url)
        a.send(there, b"who is there?")
        await until(lambda: a.inbound.received)
        assert a.inbound.received[0].handle is not there


async def test_a_name_is_looked_up_when_it_is_dialled() -> None:
    async with started({}, {}) as (a, b):
        url = f"https://localhost:{b.port}/"
        assert (await a.transport.resolve(url))[-1] == f"https://localhost:{b.port}"
        await a.answered_by(b, a.path_to(url))
        with pytest.raises(EndpointError, match=r"nonesuch\.invalid"):
            await a.transport.resolve("https://nonesuch.invalid")


async def test_another_certificate_than_announced_is_not_spoken_to() -> None:
    async with started({}, {}, {}) as (a, b, c):
        pin = c.endpoint.partition("#")[2]
        there = a.path_to(f"{b.url}#{pin}")
        a.send(there, b"?")
        await until(lambda: a.counts.get("dial_failed"))
        assert "accepted" not in b.counts
        with pytest.raises(EndpointError, match="another certificate than announced"):
            await a.transport.resolve(f"{b.url}#{pin}")


async def test_another_secret_is_told_as_such() -> None:
    async with started({}, {"secrets": [b"s" * 40]}) as (a, b):
        with pytest.raises(EndpointError, match="another secret or mesh name"):
            await a.transport.resolve(b.url)
        assert b.counts == {"refused_token": 1}


@pytest.mark.parametrize("years", [-10, 10])
async def test_clocks_that_differ_by_years_do_not_matter(years: int) -> None:
    clock = VirtualClock(start=(20 + years) * 365 * 86400.0)
    async with started({"clock": clock}, {"clock": VirtualClock(20 * 365 * 86400.0)}) as (a, b):
        await a.answered_by(b, a.path_to(b))
        assert b.counts == {"refused_token": 1, "accepted": 1}


async def test_what_lies_inside_the_mesh_is_no_endpoint() -> None:
    async with started({"overlay": ("127.0.0.0/8",)}, {}) as (a, b):
        with pytest.raises(EndpointError, match="inside the mesh"):
            a.transport.connect(b.endpoint)
        with pytest.raises(EndpointError, match="no address that may be used"):
            await a.transport.resolve(f"https://localhost:{b.port}")
        assert a.transport.local_endpoints() == ()


async def test_who_does_not_listen_is_reached_over_the_stream_that_it_opened() -> None:
    async with started({"options": {"listen": ()}}, {}) as (a, b):
        assert a.transport.local_endpoints() == ()
        await a.answered_by(b, a.path_to(b))


async def test_one_listener_serves_many_nodes() -> None:
    async with started(*[{}] * 8) as (hub, *others):
        async with anyio.create_task_group() as tasks:
            for other in others:
                other.send(other.path_to(hub), other.context.node_id.encode())
            tasks.start_soon(hub.received, len(others))
        assert hub.counts == {"accepted": len(others)}
        for entry in list(hub.inbound.received):
            hub.send(entry.handle, b"for " + entry.data)
        for other in others:
            (answer,) = await other.received(1)
            assert answer == b"for " + other.context.node_id.encode()
        assert len({entry.handle.source for entry in hub.inbound.received}) == len(others)


async def test_a_port_in_use_is_one_readable_line() -> None:
    async with started({}) as (a,), anyio.create_task_group() as tasks:
        other = Node(tasks, "z", options={"listen": (f"127.0.0.1:{a.port}",)})
        expected = rf"cannot listen on https 127.0.0.1:{a.port}: address already in use"
        with pytest.raises(TransportError, match=expected):
            await other.transport.__aenter__()


async def test_the_plugin_registers_a_transport_with_its_options() -> None:
    (registration,) = tunmesh_transports()
    assert isinstance(registration, TransportRegistration)
    assert registration.options is Options
    async with started({}) as (a,):
        transport = registration.factory(a.context)
        assert isinstance(transport, HttpsTransport)
        assert transport.schemes == {"https"}
        assert 0 < transport.priority < 100
        assert not transport.reveals_endpoint


async def test_what_it_sends_carries_the_mark() -> None:
    mark = usable_mark(7)  # 0 without the privilege
    assert mark == (7 if os.geteuid() == 0 else 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        pipe = await connect("127.0.0.1", port, allowed=lambda _: True, seconds_each=5, mark=mark)
        assert pipe.socket.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == mark
        pipe.close()


OLD, NEW = b"the secret before, in tests of HTTPS", b"the secret after it, in tests of HTTPS"


@pytest.mark.parametrize(
    "secrets", [((NEW, OLD), (OLD,)), ((OLD, NEW), (NEW, OLD)), ((NEW,), (OLD, NEW))]
)
async def test_nodes_meet_while_the_secret_of_the_mesh_is_changed(
    secrets: tuple[tuple[bytes, ...], ...],
) -> None:
    async with started(*({"secrets": some} for some in secrets)) as (a, b):
        there = a.path_to(b)
        assert a.send(there, b"hello")
        assert await b.received(1) == [b"hello"]


async def test_other_secrets_are_refused() -> None:
    async with started(
        {"secrets": (NEW, OLD)}, {"secrets": (b"something else entirely, for tests",)}
    ) as (a, b):
        with pytest.raises(EndpointError, match="another secret"):
            await a.transport.resolve(b.url)
        assert b.counts["refused_token"] == 2
