"""Directories that talk over an unreliable network on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tunmesh.identity.keys import NodeKey
from tunmesh.membership.directory import Directory
from tunmesh.membership.events import Event, ProbeHolder
from tunmesh.membership.records import NodeRecord, Profile, RecordVerifier
from tunmesh.membership.timing import DirectoryTiming
from tunmesh.testing.clock import VirtualClock

TIMING = DirectoryTiming()
#: Shared by all tests of a process: the same few keys sign the same few records.
VERIFIER = RecordVerifier()


def node_key(number: int) -> NodeKey:
    return NodeKey.from_seed(number.to_bytes(32, "big"))


class Node:
    """One directory, its clock and what it told."""

    def __init__(self, world: World, key: NodeKey, directory: Directory) -> None:
        self.world = world
        self.key = key
        self.id = key.node_id
        self.directory = directory
        self.events: list[Event] = []
        self.running = True
        self.deaf = False  # runs, but its network does not
        self._timer = float("inf")

    def __repr__(self) -> str:
        return self.directory.own.name

    def do(self, action: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        action(*args, **kwargs)
        self.pump()

    def update(self, **changes: Any) -> None:
        self.do(self.directory.update_own, self.world.now, **changes)

    def leave(self) -> None:
        self.do(self.directory.leave, self.world.now)
        self.running = False

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def pump(self) -> None:
        while (event := self.directory.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, ProbeHolder):
                self.world.probe(self, event.node_id)
        for peer, data in self.directory.messages_to_send():
            self.world.deliver(self, peer, data)
        deadline = self.directory.next_deadline()
        if deadline < self._timer:
            self._timer = deadline
            self.world.clock.post(deadline, self._due, deadline)

    def _due(self, deadline: float) -> None:
        if deadline == self._timer:
            self._timer = float("inf")
            if self.running:
                self.do(self.directory.handle_timer, self.world.now)


class World:
    """A mesh of directories.

    Args:
        seed: Of everything random.
        loss: Share of the messages that is lost.
        duplicate: Share of the messages that arrives twice.
        delay: Most seconds that a message travels.
        keepalive: Seconds between the signs of life on each session.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        delay: float = 0.05,
        keepalive: float = 2.0,
        **timing: float,
    ) -> None:
        self.clock = VirtualClock()
        self.rng = Random(seed)
        self.loss = loss
        self.duplicate = duplicate
        self.delay = delay
        self.keepalive = keepalive
        self.timing = replace(TIMING, **timing)  # type: ignore[arg-type]  # fan_out is not changed
        self.nodes: dict[str, Node] = {}
        self.links: set[frozenset[str]] = set()
        self.messages = 0
        self._keys = 0

    @property
    def now(self) -> float:
        return self.clock.now()

    def run(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def add(
        self,
        *addresses: str,
        key: NodeKey | None = None,
        boot_id: str = "0" * 16,
        initial_seq: int = 1000,
        **limits: Any,
    ) -> Node:
        if key is None:
            self._keys += 1
            key = node_key(self._keys)
        directory = Directory(
            key,
            boot_id,
            Random(self.rng.random()),
            profile=Profile(name=f"n{self._keys}", addresses=addresses),
            now=self.now,
            initial_seq=initial_seq,
            timing=self.timing,
            verifier=VERIFIER,
            **limits,
        )
        node = self.nodes[key.node_id] = Node(self, key, directory)
        node.pump()
        return node

    def link(self, one: Node, other: Node) -> None:
        """A session comes up, and keeps showing life while both ends can."""
        link = frozenset((one.id, other.id))
        if link not in self.links:
            self.links.add(link)
            one.do(one.directory.connected, other.id, self.now)
            other.do(other.directory.connected, one.id, self.now)
            self._keep_alive(link, one, other)

    def unlink(self, one: Node, other: Node) -> None:
        self.links.discard(frozenset((one.id, other.id)))
        one.do(one.directory.disconnected, other.id, self.now)
        other.do(other.directory.disconnected, one.id, self.now)

    def mesh(self, *nodes: Node) -> None:
        for position, one in enumerate(nodes):
            for other in nodes[position + 1 :]:
                self.link(one, other)

    def kill(self, node: Node) -> None:
        node.running = False

    def deliver(self, sender: Node, peer: str, data: bytes) -> None:
        self.messages += 1
        copies = 1 + (self.rng.random() < self.duplicate)
        for _ in range(copies):
            if self.rng.random() >= self.loss:
                when = self.now + self.rng.uniform(0, self.delay)
                self.clock.post(when, self._arrive, sender, peer, data)

    def probe(self, asker: Node, holder: str) -> None:
        """The holder answers, by whatever way, if it can."""
        node = self.nodes.get(holder)
        if node is not None and self._hears(asker, node):
            when = self.now + self.rng.uniform(0, self.delay)
            self.clock.post(when, self._sign_of_life, asker, node)

    def same(self) -> bool:
        """Whether all running directories hold the same records."""
        held = [self._held(node) for node in self.nodes.values() if node.running]
        return all(other == held[0] for other in held)

    def _held(self, node: Node) -> dict[str, NodeRecord]:
        return {**node.directory.records, node.id: node.directory.own}

    def _hears(self, one: Node, other: Node) -> bool:
        return one.running and other.running and not one.deaf and not other.deaf

    def _arrive(self, sender: Node, peer: str, data: bytes) -> None:
        node = self.nodes[peer]
        linked = frozenset((sender.id, peer)) in self.links
        if linked and node.running and not node.deaf and not sender.deaf:
            node.do(node.directory.receive, sender.id, data, self.now)

    def _sign_of_life(self, node: Node, other: Node) -> None:
        if self._hears(node, other):
            node.do(node.directory.heard, other.id, self.now)

    def _keep_alive(self, link: frozenset[str], one: Node, other: Node) -> None:
        if link in self.links:
            self._sign_of_life(one, other)
            self._sign_of_life(other, one)
            self.clock.post(self.now + self.keepalive, self._keep_alive, link, one, other)
