"""``tunmesh multicast send`` and ``tunmesh multicast join``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

from tunmesh_multicast_igmp.tools.sockets import (
    Address,
    Membership,
    MulticastError,
    parse_group,
    parse_sources,
    sender,
)
from tunmesh_multicast_igmp.tools.stream import HEADER_SIZE, Receiver, encode_datagram

if TYPE_CHECKING:
    import argparse

_LARGEST = 65_000
#: Seconds between two looks at the interface, and at the time.
_TICK = 0.5


def send(args: argparse.Namespace) -> int:
    """Send numbered datagrams to a group."""
    group = parse_group(args.group)
    if not 0 < args.rate <= 1_000_000 or not HEADER_SIZE <= args.size <= _LARGEST:
        limits = f"--rate from 0 to 1000000, --size from {HEADER_SIZE} to {_LARGEST}"
        raise MulticastError(f"out of bounds: {limits}")
    stream = int.from_bytes(os.urandom(8), "big")
    failed = number = 0
    with sender(group, args.device, args.ttl) as sock:
        began = time.monotonic()
        try:
            while number < args.count or not args.count:
                datagram = encode_datagram(stream, number, time.time_ns(), args.size)
                number += 1
                try:
                    sock.sendto(datagram, (str(group), args.port))
                except OSError as error:
                    failed += 1
                    if failed == number == 1:
                        reason = os.strerror(error.errno or 0)
                        raise MulticastError(f"cannot send to {group}: {reason}") from error
                time.sleep(max(0.0, began + number / args.rate - time.monotonic()))
        except KeyboardInterrupt:
            pass
    refused = f", {failed} refused by the host" if failed else ""
    sys.stdout.write(f"sent {number} datagrams of {args.size} bytes to {group}{refused}\n")
    return 1 if failed else 0


def join(args: argparse.Namespace) -> int:
    """Join a group and report what comes."""
    group = parse_group(args.group)
    sources = parse_sources(group, args.source)
    # As Ctrl-C: the report is written in the end.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    membership = Membership(group, args.port, args.device, sources)
    try:
        with membership.socket:
            receiver = _receive(membership, group, args)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if args.json:
        result = {"group": str(group), "senders": receiver.summaries(), "foreign": receiver.foreign}
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for summary in receiver.summaries():
            sys.stdout.write("  ".join(f"{key} {value}" for key, value in summary.items()) + "\n")
        if not receiver.summaries():
            sys.stdout.write(f"nothing came to {group}\n")
    return 0 if receiver.received else 1


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _receive(membership: Membership, group: Address, args: argparse.Namespace) -> Receiver:
    """Receive until there is enough, the time is over, or Ctrl-C."""
    receiver = Receiver()
    sock = membership.socket
    began = looked = time.monotonic()
    sys.stderr.write(f"joined {group} port {args.port}\n")
    sys.stderr.flush()
    try:
        while not args.count or receiver.received < args.count:
            now = time.monotonic()
            if args.seconds and now - began >= args.seconds:
                break
            if now - looked >= _TICK:
                looked = now
                if membership.renew():
                    sys.stderr.write(f"joined {group} again: the interface is a new one\n")
            left = began + args.seconds - now if args.seconds else _TICK
            sock.settimeout(max(0.001, min(_TICK, left)))
            try:
                datagram, address = sock.recvfrom(65_536)
            except TimeoutError:
                continue
            stream = receiver.receive(datagram, str(address[0]), time.time_ns())
            if stream is not None and not args.json and stream.received == 1:
                sys.stdout.write(f"{stream.source} sends to {group}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    return receiver
