"""A bulk flow between two devices: what the offloads are for."""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tunmesh.interfaces import DeviceConfig
from tunmesh_tun_linux.hostnet import GSO_MAX_SIZE, HostNet
from tunmesh_tun_linux.tunfd import open_tun

pytestmark = pytest.mark.system

MTU = 1400
SIZE = 20_000_000
_HEADERS = 10 + 40 + 60  # virtio_net_hdr, IPv6, TCP with options
_GSO_TYPES = {socket.AF_INET: 1, socket.AF_INET6: 4}


def open_device(number: int) -> int:
    """A device with an address of each family."""
    fd, *_ = open_tun("tun1")
    host = HostNet("tun1")
    host.bring_up(MTU, 500)
    host.apply(
        DeviceConfig(
            addresses=(
                ipaddress.ip_interface(f"10.77.0.{number}/24"),
                ipaddress.ip_interface(f"fd77::{number}/64"),
            )
        )
    )
    return fd


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp_crosses_as_superpackets(
    new_netns: Callable[[], AbstractContextManager[None]], family: socket.AddressFamily
) -> None:
    address = "fd77::2" if family == socket.AF_INET6 else "10.77.0.2"
    here = open_device(1)
    with new_netns():
        there = open_device(2)
        listener = socket.create_server((address, 9), family=family)
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setblocking(False)
    client.connect_ex((address, 9))
    listener.setblocking(False)

    largest = _shuttle(here, there, listener, client, family)

    # One segment short of the limit at least, and never beyond it.
    assert GSO_MAX_SIZE - 2 * MTU < largest <= GSO_MAX_SIZE + _HEADERS
    for sock in (listener, client):
        sock.close()
    for fd in (here, there):
        os.close(fd)


def _shuttle(
    here: int,
    there: int,
    listener: socket.socket,
    client: socket.socket,
    family: socket.AddressFamily,
) -> int:
    """Carry frames both ways until `SIZE` bytes have arrived; the length of the largest one."""
    largest = received = 0
    data = bytes(1 << 20)
    connection: socket.socket | None = None
    with selectors.DefaultSelector() as selector:
        for item in (here, there, listener):
            selector.register(item, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_WRITE)
        deadline = time.monotonic() + 15
        while received < SIZE:
            assert time.monotonic() < deadline, f"only {received} bytes arrived"
            for key, _ in selector.select(1):
                if key.fileobj is client:
                    client.send(data)
                elif key.fileobj is listener:
                    connection, _ = listener.accept()
                    selector.register(connection, selectors.EVENT_READ)
                elif key.fileobj is connection:
                    received += len(connection.recv(1 << 20))
                else:
                    frame = os.read(key.fd, 70_000)
                    os.write(there if key.fd == here else here, frame)
                    largest = max(largest, len(frame))
                    if len(frame) > MTU + 10:
                        gso_type, gso_size = struct.unpack_from("<xBxxH", frame)
                        assert gso_type == _GSO_TYPES[family]
                        assert gso_size < MTU
    if connection is not None:
        connection.close()
    return largest
