"""What the demo does, step by step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from tunmesh_tun_linux.demo import broadcast as broadcasts
from tunmesh_tun_linux.demo import groups, meter, namespaces
from tunmesh_tun_linux.demo.namespaces import DemoError, underlay_address
from tunmesh_tun_linux.demo.nodes import DEVICE, MESH_BROADCAST, Node
from tunmesh_tun_linux.demo.ping import ping
from tunmesh_tun_linux.demo.screen import Screen, Step, Table
from tunmesh_tun_linux.demo.worker import Worker

_TICK = 0.05  # seconds between two looks
_START_TIMEOUT = 15.0
_MESH_TIMEOUT = 30.0
_PINGS = 5
_PING_TIMEOUT = 1.0
_TCP_SECONDS = 2.0
_UDP_SECONDS = 1.5
_WORKER_TIMEOUT = 30.0
#: More columns do not fit a terminal.
_WIDEST_MATRIX = 8

#: Where something runs, what runs there, and its arguments.
_Job: TypeAlias = tuple[Node, Callable[..., Any], tuple[Any, ...]]


def build_network(screen: Screen, nodes: Sequence[Node]) -> None:
    """Make a host for each node, and a network between them."""
    with screen.step("network") as step:
        namespaces.create([namespaces.UNDERLAY, *(node.namespace for node in nodes)])
        namespaces.build_underlay(len(nodes))
        first, last = underlay_address(1), underlay_address(len(nodes))
        step.update(f"{len(nodes)} hosts on a bridge, {first} to {last}")


def form_mesh(screen: Screen, nodes: Sequence[Node], plugins: Sequence[str]) -> None:
    """Start every node, and wait until each of them has a session with each other."""
    first, *others = nodes
    with screen.step(first.name) as step:
        first.start(plugins, bootstrap=())
        endpoint = _wait_for_endpoint(first, step)
        step.update(
            f"listens at {endpoint}, has device {DEVICE} with {first.ipv4} and {first.ipv6}"
        )
    with screen.step("mesh") as step:
        for node in others:
            node.start(plugins, bootstrap=[endpoint])
        deadline = time.monotonic() + _MESH_TIMEOUT
        while True:
            statuses = [node.status() for node in nodes]
            table, connected = mesh_table([node.name for node in nodes], statuses)
            pairs = len(nodes) * (len(nodes) - 1) // 2
            carrier = _carrier(statuses)
            step.update(
                f"{connected} of {pairs} pairs connected{carrier}, "
                f"given only {first.name}'s address",
                table,
            )
            if connected == pairs:
                return
            if time.monotonic() > deadline:
                raise DemoError(f"the mesh did not form in {_MESH_TIMEOUT:g} s{_logs(nodes)}")
            time.sleep(_TICK)


def _wait_for_endpoint(node: Node, step: Step) -> str:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        status = node.status()
        endpoints: list[str] = status["node"]["endpoints"] if status else []
        for endpoint in endpoints:
            if underlay_address(1) in endpoint:
                return endpoint
        step.update("starting")
        time.sleep(_TICK)
    raise DemoError(f"{node.name} did not start in {_START_TIMEOUT:g} s{_logs([node])}")


def mesh_table(
    names: Sequence[str], statuses: Sequence[dict[str, Any] | None]
) -> tuple[Table, int]:
    """Who is connected with whom.

    Returns:
        A table of it, and how many pairs are connected, as both sides see it.
    """
    states: dict[tuple[str, str], str] = {}
    for name, status in zip(names, statuses, strict=True):
        for other in names:
            states[name, other] = "starting" if status is None else "connecting"
        for peer in status["peers"] if status else ():
            states[name, peer["name"]] = peer["state"]
        states[name, name] = "-"
    connected = sum(
        states[one, other] == states[other, one] == "up"
        for index, one in enumerate(names)
        for other in names[index + 1 :]
    )
    if len(names) <= _WIDEST_MATRIX:
        rows = [[one, *(states[one, other] for other in names)] for one in names]
        return Table(["", *names], rows), connected
    counts = [sum(states[one, other] == "up" for other in names) for one in names]
    rows = [
        [name, f"{count} of {len(names) - 1}"] for name, count in zip(names, counts, strict=True)
    ]
    return Table(["", "peers"], rows), connected


def _carrier(statuses: Sequence[dict[str, Any] | None]) -> str:
    """How the sessions are sealed and carried, as far as it is known yet."""
    kinds = {
        f"{link['cipher']} over {link['transport']}"
        for status in statuses
        for peer in (status["peers"] if status else ())
        for link in peer["links"]
        if link["active"]
    }
    return f", {' and '.join(sorted(kinds))}" if kinds else ""


def ping_everybody(screen: Screen, nodes: Sequence[Node]) -> None:
    """Ping each node from each other: by IPv4, IPv6, and the link-local address of its device."""
    with screen.step("ping") as step:
        rows: list[list[str]] = []
        everything: list[float] = []
        addresses = {node: (node.ipv4, node.ipv6, _link_local(node)) for node in nodes}
        for node in nodes:
            others = [other for other in nodes if other is not node]
            targets = [address for other in others for address in addresses[other] if address]
            with Worker(node.namespace, ping, targets, _PINGS, _PING_TIMEOUT) as worker:
                for target in _reports(worker):
                    step.update(f"{node.name} to {target}")
                results: dict[str, list[float | None]] = worker.result
            for other in others:
                found = [results[address] for address in addresses[other] if address]
                rows.append([node.name, other.name, *map(round_trip, found)])
                everything += [time for times in found for time in times if time is not None]
                if not all(map(any, found)):
                    step.update("no reply", _ping_table(rows))
                    raise DemoError(
                        f"{node.name} got no reply from {other.name}{_logs([node, other])}"
                    )
        average = fmean(everything) * 1000
        step.update(f"all answer, {average:.2f} ms on average", _ping_table(rows))


def _ping_table(rows: list[list[str]]) -> Table:
    most = 20
    width = len(rows[0])
    more = [[f"and {len(rows) - most} more"] + [""] * (width - 1)] if len(rows) > most else []
    return Table(["from", "to", "IPv4", "IPv6", "link-local"][:width], rows[:most] + more)


def _link_local(node: Node) -> str:
    """The address that the kernel gave the device, with its zone; empty if nobody announces it."""
    status = node.status()
    own: list[str] = status["node"]["addresses"] if status else []
    found = [address.partition("/")[0] for address in own if address.startswith("fe80:")]
    return f"{found[0]}%{DEVICE}" if found else ""


def round_trip(times: Sequence[float | None]) -> str:
    """The average of some round-trip times, and the losses."""
    replies = [time for time in times if time is not None]
    if not replies:
        return "no reply"
    lost = len(times) - len(replies)
    return f"{fmean(replies) * 1000:.2f} ms" + (f", {lost} of {len(times)} lost" if lost else "")


def broadcast(screen: Screen, sender: Node, receivers: Sequence[Node]) -> None:
    """Send one broadcast of each kind, and see every other node get one copy of each."""
    kinds = {
        "255.255.255.255": "255.255.255.255",
        "local subnet": sender.local_broadcast,
        "whole mesh": MESH_BROADCAST,
    }
    with screen.step("broadcast") as step, ExitStack() as stack:
        sinks = []
        for node in receivers:
            sinks.append(stack.enter_context(Worker(node.namespace, broadcasts.receive)))
            sinks[-1].poll(_WORKER_TIMEOUT)  # it listens
        arguments = (sender.ipv4, list(kinds.values()))
        with Worker(sender.namespace, broadcasts.send, *arguments) as source:
            for _ in _reports(source):
                pass
        rows = []
        for node, sink in zip(receivers, sinks, strict=True):
            for _ in _reports(sink):
                pass
            copies = [sink.result.get(address, 0) for address in kinds.values()]
            rows.append([node.name, *map(str, copies)])
            if set(copies) != {1}:
                step.update("not one copy of each", Table(["copies at", *kinds], rows))
                raise DemoError(
                    f"{node.name} did not get one copy of each broadcast of {sender.name}"
                    f"{_logs([sender, node])}"
                )
        text = f"one datagram of {sender.name} to each address, one copy at each other node"
        step.update(text, Table(["copies at", *kinds], rows))


def measure_throughput(screen: Screen, sender: Node, receiver: Node) -> None:
    """Send as fast as it goes, through ordinary sockets, from one node to another."""
    headers = [f"{sender.name} to {receiver.name}", "throughput", "packets arriving"]
    measurements: list[tuple[str, _Job, _Job]] = [
        (
            f"TCP, {family}",
            (receiver, meter.tcp_receive, (address,)),
            (sender, meter.tcp_send, (address, _TCP_SECONDS)),
        )
        for family, address in (("IPv4", receiver.ipv4), ("IPv6", receiver.ipv6))
    ] + [
        (
            f"UDP, {size} bytes",
            (receiver, meter.udp_receive, (receiver.ipv4,)),
            (sender, meter.udp_send, (receiver.ipv4, size, _UDP_SECONDS)),
        )
        for size in (1300, 64)
    ]
    rows: list[list[str]] = []
    with screen.step("throughput") as step:
        for what, receive, send in measurements:
            row = [what, "", ""]
            rows.append(row)
            for flow, sent in _flow(receive, send):
                row[1] = bit_rate(flow.bits_per_second)
                row[2] = f"{flow.packets_per_second:,.0f} /s" if flow.packets else ""
                if sent:
                    row[2] += f", {flow.packets / sent:.0%} of those sent"
                step.update("through the tunnel, one flow at a time", Table(headers, rows))


def _flow(receive: _Job, send: _Job) -> Iterator[tuple[meter.Flow, int | None]]:
    """Let one node send to another: the flow so far, again and again, and what was sent."""
    receiver, receive_function, receive_arguments = receive
    sender, send_function, send_arguments = send
    with Worker(receiver.namespace, receive_function, *receive_arguments) as sink:
        sink.poll(_WORKER_TIMEOUT)  # it listens
        with Worker(sender.namespace, send_function, *send_arguments) as source:
            for flow in _reports(sink):
                yield flow, None
            for _ in _reports(source):
                pass
            yield sink.result, source.result


def _reports(worker: Worker) -> Iterator[Any]:
    """What a worker reports, until it is done."""
    deadline = time.monotonic() + _WORKER_TIMEOUT
    while not worker.finished:
        value = worker.poll(_TICK)
        if value is not None:
            yield value
        if time.monotonic() > deadline:
            raise DemoError(f"a measurement did not end in {_WORKER_TIMEOUT:g} s")


def bit_rate(bits_per_second: float) -> str:
    """A rate as people read it."""
    if bits_per_second >= 1e9:
        return f"{bits_per_second / 1e9:.2f} Gbit/s"
    return f"{bits_per_second / 1e6:.1f} Mbit/s"


def reach_group(screen: Screen, nodes: Sequence[Node]) -> None:
    """Send to a multicast group that all but the last node have joined, and the sender not."""
    sender, *others = nodes
    members, outsiders = (others[:-1], others[-1:]) if len(others) > 1 else (others, [])
    with screen.step("multicast") as step, ExitStack() as stack:
        step.update(f"{', '.join(member.name for member in members)} join {groups.GROUP}")
        workers = [
            stack.enter_context(Worker(member.namespace, groups.listen, DEVICE))
            for member in members
        ]
        for worker in workers:
            worker.poll(_WORKER_TIMEOUT)  # it has joined
        _wait_for_members(sender, [member.name for member in members])
        with Worker(sender.namespace, groups.talk) as source:
            for _ in _reports(source):
                pass
            sent: int = source.result
        rows = [[sender.name, "sends", f"{sent} datagrams"]]
        for member, worker in zip(members, workers, strict=True):
            for _ in _reports(worker):
                pass
            rows.append([member.name, "joined", f"{worker.result} arrived"])
        rows += [[node.name, "not joined", "nothing is sent there"] for node in outsiders]
        copies = _group(sender).get("replicas", 0)
        table = Table(["", groups.GROUP, ""], rows)
        step.update(f"{copies} copies sent for {len(members)} members, none to others", table)
        short = any(worker.result != sent for worker in workers)
        if short or copies != sent * len(members):
            raise DemoError(f"the group was not reached as it should{_logs(nodes)}")


def _wait_for_members(node: Node, names: Sequence[str]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while sorted(_group(node).get("members", ())) != sorted(names):
        if time.monotonic() > deadline:
            raise DemoError(f"{node.name} does not know of the group{_logs([node])}")
        time.sleep(_TICK)


def _group(node: Node) -> dict[str, Any]:
    """The demo's group as a node sees it; empty if it is unknown there."""
    status = node.status()
    found = [item for item in (status or {}).get("groups", ()) if item["group"] == groups.GROUP]
    return found[0] if found else {}


def keep_running(screen: Screen, nodes: Sequence[Node], *, in_user_namespace: bool) -> None:
    """Leave the mesh to the person who runs the demo, until Ctrl-C."""
    first, second = nodes[:2]
    enter = f"sudo ip netns exec {first.namespace}"
    if in_user_namespace:
        enter = f"nsenter --target {first.pid} --user --mount --net --preserve-credentials"
    program = Path(sys.executable).with_name("tunmesh")
    try:
        screen.note(
            "The mesh stays up until Ctrl-C. In another terminal:\n"
            f"  {enter} ping {second.ipv4}\n"
            f"  {enter} bash\n"
            f"  {enter} {program} status --socket {first.socket}\n"
        )
        while True:
            for node in nodes:
                node.status()  # notices a node that ended
            time.sleep(1)
    except KeyboardInterrupt:
        return


def _logs(nodes: Sequence[Node]) -> str:
    """What nodes wrote last, for a failure's message."""
    return "".join(f"\n  {node.name} wrote last:{node.log_tail()}" for node in nodes)
