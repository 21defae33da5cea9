"""Tests of transports: attributes, endpoints, handles, errors, counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunmesh.errors import EndpointError, TransportError
from tunmesh.interfaces.transport import PathHandle, Transport
from tunmesh.testing.conformance.ends import free_port
from tunmesh.testing.conformance.names import check_counters, check_line
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.transport_base import TransportTests

#: What is no endpoint of any transport.
_NO_ENDPOINTS = ("", "nonsense", "nonesuch://127.0.0.1:1", "://", "\0")


class TransportContract(TransportTests):
    """What a transport says of itself, and of its paths."""

    async def test_attributes_are_as_declared(self, folder: Path) -> None:
        """Class attributes have the types and bounds that the core relies on."""
        async with self.ends(folder, 1) as (a,):
            transport = a.transport
            assert isinstance(transport, Transport)
            assert transport.schemes, "a transport without schemes can never be dialled"
            assert all(scheme == scheme.lower() for scheme in transport.schemes)
            assert isinstance(transport.priority, int)
            assert transport.max_segments >= 1
            assert transport.max_send >= 1
            assert isinstance(transport.probes_mtu, bool)
            assert isinstance(transport.reveals_endpoint, bool)

    @covers("Transport.local_endpoints", "Transport.resolve")
    async def test_local_endpoints_are_what_others_dial(self, folder: Path) -> None:
        """Each of them is a URL of its schemes, resolves, and can be connected to."""
        async with self.ends(folder) as (a, b):
            endpoints = a.transport.local_endpoints()
            assert isinstance(endpoints, tuple)
            assert endpoints, "nobody can reach it: settings must make it listen"
            assert endpoints == a.transport.local_endpoints()
            for endpoint in endpoints:
                assert endpoint.partition("://")[0] in a.transport.schemes
                resolved = await b.transport.resolve(endpoint)
                assert isinstance(resolved, tuple)
                assert resolved
                for found in resolved:
                    assert isinstance(b.transport.connect(found), PathHandle)

    @covers("Transport.connect")
    async def test_handles_say_where_they_lead(self, folder: Path) -> None:
        """A handle has its transport, its endpoint, a source, and room for datagrams."""
        async with self.ends(folder) as (a, b):
            handle = a.transport.connect(b.endpoint)
            assert handle.transport is a.transport
            assert handle.endpoint == b.endpoint
            assert isinstance(handle.source, bytes)
            assert handle.source, "strangers are rate-limited by their source: it is empty"
            assert handle.max_datagram >= 1280, "the smallest link of IPv6 takes 1280 bytes"
            assert (handle.rx_bytes, handle.tx_bytes) == (0, 0), "the core counts these"

    @covers("Transport.connect", "Transport.adopt", "Transport.release")
    async def test_an_adopted_endpoint_has_one_handle(self, folder: Path) -> None:
        """Connecting again, and datagrams that come, give the adopted object."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            assert a.transport.connect(b.endpoint) is handle
            back = await a.deliver(handle, b, b"question")
            b.transport.adopt(back)
            for number in range(3):
                assert await a.deliver(handle, b, b"again %d" % number) is back
                assert await b.deliver(back, a, b"answer %d" % number) is handle

    @covers("Transport.release")
    async def test_release_may_come_twice_and_for_strangers(self, folder: Path) -> None:
        """Unknown handles are ignored, and the endpoint can be connected to again."""
        async with self.ends(folder) as (a, b):
            a.transport.release(a.transport.connect(b.endpoint))
            handle = a.path_to(b.endpoint)
            await a.deliver(handle, b, b"before")
            a.transport.release(handle)
            a.transport.release(handle)
            await a.deliver(a.path_to(b.endpoint), b, b"after")

    @covers("Transport.connect", "Transport.resolve")
    async def test_what_is_no_endpoint_is_refused(self, folder: Path) -> None:
        """Malformed endpoints raise EndpointError with one line."""
        async with self.ends(folder, 1) as (a,):
            for text in _NO_ENDPOINTS:
                with pytest.raises(EndpointError) as caught:
                    a.transport.connect(text)
                check_line(caught.value)
            for scheme in a.transport.schemes:
                with pytest.raises(EndpointError) as caught:
                    a.transport.connect(f"{scheme}://")
                check_line(caught.value)

    @covers("Transport.connect")
    async def test_what_lies_inside_the_mesh_is_refused(self, folder: Path) -> None:
        """Datagrams to an endpoint inside the mesh would travel through themselves."""
        if not self.over_ip:
            pytest.skip("its endpoints are no IP addresses (over_ip)")
        async with self.ends(folder, 1) as (b,):
            a = self.end(b.stage, folder, free_port(), "127.0.0.0/8", "::/0")
            async with a.transport:
                with pytest.raises(EndpointError) as caught:
                    a.transport.connect(b.endpoint)
                check_line(caught.value)

    @covers("Transport.__aenter__")
    async def test_an_endpoint_in_use_is_one_readable_line(self, folder: Path) -> None:
        """Opening raises TransportError, and leaves nothing."""
        port = free_port()
        async with self.ends(folder, ports=[port]) as (a,):
            async with self.stage() as stage:
                other = self.end(stage, folder, port)
                with pytest.raises(TransportError) as caught:
                    await other.transport.__aenter__()
                check_line(caught.value)
            async with self.stage() as stage:  # it did not take the endpoint from its owner
                dialler = self.end(stage, folder, free_port())
                async with dialler.transport:
                    await dialler.deliver(dialler.path_to(a.endpoint), a, b"still here?")

    @covers("Transport.statistics", "Transport.overruns")
    async def test_counters_have_names_and_only_grow(self, folder: Path) -> None:
        """Counters are whole numbers by snake_case names, and never fall."""
        async with self.ends(folder) as (a, b):
            before = [check_counters(end.transport.statistics()) for end in (a, b)]
            overruns = [end.transport.overruns() for end in (a, b)]
            handle = a.path_to(b.endpoint)
            for _ in range(3):
                await b.deliver(await a.deliver(handle, b, b"there"), a, b"back")
            for end, old, lost in zip((a, b), before, overruns, strict=True):
                check_counters(end.transport.statistics(), old)
                assert isinstance(end.transport.overruns(), int)
                assert end.transport.overruns() >= lost >= 0
