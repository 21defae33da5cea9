"""Each rule bites: a transport that breaks it fails the test that is named for it."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest

from tests.conformance.wire import OPEN, Options, Wire
from tunmesh.interfaces.tun import Buffer
from tunmesh.plugin import PathHandle, TransportError, TransportRegistration
from tunmesh.testing.conformance import TransportConformance

#: What is wrong, the test that must notice, and what it says.
BROKEN: list[tuple[type[Wire], str, str]] = []


def notices(test: str, message: str) -> Any:
    """Enter a transport for the test that must fail."""

    def enter(kind: type[Wire]) -> type[Wire]:
        BROKEN.append((kind, f"test_{test}", message))
        return kind

    return enter


@notices("attributes_are_as_declared", "without schemes")
class NoSchemes(Wire):
    schemes = frozenset()


@notices("local_endpoints_are_what_others_dial", "isinstance")
class ListOfEndpoints(Wire):
    def local_endpoints(self) -> tuple[str, ...]:
        return list(super().local_endpoints())  # type: ignore[return-value]


@notices("handles_say_where_they_lead", "source")
class NoSource(Wire):
    def handle(self, endpoint: str) -> PathHandle:
        return PathHandle(self, endpoint, source=b"", max_datagram=9000)


@notices("an_adopted_endpoint_has_one_handle", " is ")
class HandleForEach(Wire):
    def arrived(self, source: str, datagram: bytes) -> None:
        self.context.inbound.receive(self.handle(source), memoryview(datagram), len(datagram))


@notices("release_may_come_twice_and_for_strangers", "wire://")
class ReleaseOnce(Wire):
    def release(self, handle: PathHandle) -> None:
        del self.adopted[handle.endpoint]


@notices("what_is_no_endpoint_is_refused", "DID NOT RAISE")
class AnythingIsAnEndpoint(Wire):
    def connect(self, endpoint: str) -> PathHandle:
        return self.adopted.get(endpoint) or self.handle(endpoint)


@notices("what_is_no_endpoint_is_refused", "no endpoint")
class WrongError(Wire):
    def connect(self, endpoint: str) -> PathHandle:
        if not endpoint.startswith("wire://127"):
            raise ValueError("no endpoint")
        return super().connect(endpoint)


@notices("what_lies_inside_the_mesh_is_refused", "DID NOT RAISE")
class IntoItself(Wire):
    def connect(self, endpoint: str) -> PathHandle:
        self.context.is_overlay = lambda _: False
        return super().connect(endpoint)


@notices("an_endpoint_in_use_is_one_readable_line", "DID NOT RAISE")
class TakesOver(Wire):
    async def __aenter__(self) -> Self:
        OPEN.pop(self.own, None)
        LEFT.append(self.close)
        return await super().__aenter__()


@notices("an_endpoint_in_use_is_one_readable_line", "several lines")
class LongStory(Wire):
    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except TransportError as error:
            raise TransportError(f"{error}\nand so on") from error


@notices("counters_have_names_and_only_grow", "snake_case")
class OddCounter(Wire):
    def statistics(self) -> dict[str, int]:
        return {"Bytes sent": 1}


@notices("counters_have_names_and_only_grow", "whole number")
class HalfCounter(Wire):
    def statistics(self) -> dict[str, int]:
        return {"sent": 0.5}  # type: ignore[dict-item]


@notices("counters_have_names_and_only_grow", "fell")
class ForgetfulCounter(Wire):
    def statistics(self) -> dict[str, int]:
        return {"left": 1000 - self.counts["sent"]}


@notices("datagrams_keep_their_bounds", "arrived as")
class JoinsSegments(Wire):
    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        data = b"".join(buffers)
        return super().send(handle, [data], max(len(data), 1))


@notices("datagrams_keep_their_bounds", "not a memoryview")
class DeliversBytes(Wire):
    def arrived(self, source: str, datagram: bytes) -> None:
        handle = self.adopted.get(source) or self.handle(source)
        self.context.inbound.receive(handle, datagram, len(datagram))


@notices("datagrams_keep_their_bounds", "another thread")
class DeliversFromThread(Wire):
    def arrived(self, source: str, datagram: bytes) -> None:
        thread = threading.Thread(target=super().arrived, args=(source, datagram))
        thread.start()
        thread.join()


@notices("datagrams_keep_their_bounds", "the task")
class TaskRaises(Wire):
    def arrived(self, source: str, datagram: bytes) -> None:
        super().arrived(source, datagram)
        self.context.start_soon(self.raises)

    async def raises(self) -> None:
        raise KeyError("a defect")


@notices("the_largest_datagram_and_the_largest_run_arrive", "did not arrive")
class SmallerThanPromised(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if len(datagram) < 8000:
            super().carry(handle, datagram)


class Later(Wire):
    """Delivers when the event loop has time."""

    bounded = False

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.queue: list[tuple[PathHandle, Any]] = []

    def later(self, handle: PathHandle, datagram: Any) -> None:
        if not self.queue:
            self.context.start_soon(self.flush)
        self.queue.append((handle, datagram))

    async def flush(self) -> None:
        queue, self.queue = self.queue, []
        for handle, datagram in queue:
            super().carry(handle, bytes(datagram))


@notices("buffers_are_not_kept", "a buffer was kept")
class KeepsBuffers(Later):
    async def flush(self) -> None:
        queue, self.queue = self.queue, []
        for handle, buffers in queue:
            if data := b"".join(buffers):
                Wire.carry(self, handle, data)

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        self.later(handle, list(buffers))
        return True


@notices("buffers_are_not_kept", "BufferError")
class LooksIntoBuffers(Later):
    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        self.later(handle, memoryview(buffers[0]))
        return True


@notices("a_datagram_too_large_is_told_or_counted", "without a trace")
class ForgetsLargeOnes(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if len(datagram) <= handle.max_datagram:
            super().carry(handle, datagram)


@notices("a_datagram_too_large_is_told_or_counted", "arrived")
class CutsLargeOnes(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        super().carry(handle, datagram[: handle.max_datagram])


@notices("a_full_queue_drops_and_tells", "MiB are kept")
class Unbounded(Later):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        self.later(handle, datagram)


@notices("a_full_queue_drops_and_tells", "without a trace")
class DropsSilently(Later):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if len(self.queue) < 64:
            self.later(handle, datagram)


@notices("a_full_queue_drops_and_tells", "send blocked")
class Blocks(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if self.counts["sent"] > 10:
            time.sleep(60)
        super().carry(handle, datagram)


@notices("both_ends_may_dial_at_once", "did not arrive")
class OneWay(Wire):
    def adopt(self, handle: PathHandle) -> None:
        other = OPEN.get(handle.endpoint)
        if other is None or self.own not in other.adopted:
            super().adopt(handle)

    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if handle.endpoint in self.adopted:
            super().carry(handle, datagram)


@notices("one_serves_many", "assert")
class OneHandleForAll(Wire):
    def arrived(self, source: str, datagram: bytes) -> None:
        handle = self.adopted.setdefault("", self.handle(source))
        self.context.inbound.receive(handle, memoryview(datagram), len(datagram))


@notices("the_core_may_answer_while_it_receives", "not again")
class NotReentrant(Wire):
    receiving = False

    def arrived(self, source: str, datagram: bytes) -> None:
        self.receiving = True
        super().arrived(source, datagram)
        self.receiving = False

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        if self.receiving:
            raise RuntimeError("not again")
        return super().send(handle, buffers, segment_size)


@notices("a_peer_that_comes_back_is_reached_again", "not reached again")
class GivesUp(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if "lost" not in self.counts:
            super().carry(handle, datagram)


@notices("the_factory_opens_nothing", "descriptor")
class OpensInFactory(Wire):
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.pair = socket.socketpair()
        LEFT.append(self.close)


@notices("closing_leaves_nothing", "left open")
class LeavesWatch(Wire):
    def close(self) -> None:
        if self.watch is not None:
            LEFT.append(self.watch.close)
        self.watch = None
        super().close()


@notices("closing_leaves_nothing", "descriptor of socket")
class LeavesDescriptor(Wire):
    def close(self) -> None:
        LEFT.extend(sock.close for sock in self.pair[1:])
        self.pair = self.pair[:1]
        super().close()


@notices("closing_leaves_nothing", "task")
class LeavesTask(Wire):
    async def __aenter__(self) -> Self:
        self.context.start_soon(anyio.sleep_forever)
        return await super().__aenter__()


@notices("closing_leaves_nothing", "thread")
class LeavesThread(Wire):
    async def __aenter__(self) -> Self:
        stop = threading.Event()
        LEFT.append(stop.set)
        threading.Thread(target=stop.wait, name="left").start()
        return await super().__aenter__()


@notices("closing_leaves_nothing", "return the transport itself")
class EntersAsAnother(Wire):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return None  # type: ignore[return-value]


@notices("closing_twice_is_harmless", "IndexError")
class ClosesOnce(Wire):
    def close(self) -> None:
        self.pair[0].fileno()
        super().close()


@notices("closing_what_never_opened_is_harmless", "KeyError")
class MustHaveOpened(Wire):
    def close(self) -> None:
        if not self.pair:
            raise KeyError(self.own)
        super().close()


@notices("the_endpoint_is_free_after_closing", "in use")
class KeepsEndpoint(Wire):
    def close(self) -> None:
        super().close()
        OPEN[self.own] = self


@notices("cancelled_while_it_opens", "left open")
class OpensHalf(Wire):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        LEFT.append(self.close)
        await anyio.lowlevel.checkpoint()
        return self


@notices("cancelled_while_it_closes", "left open")
class ClosesHalf(Wire):
    async def __aexit__(self, *_: object) -> None:
        LEFT.append(self.close)
        await anyio.lowlevel.checkpoint()
        self.close()


@notices("sending_after_closing_is_lost_without_an_error", "closed")
class SendRaises(Wire):
    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        if not self.pair:
            raise RuntimeError("closed")
        return super().send(handle, buffers, segment_size)


@notices("closing_while_datagrams_are_on_their_way", "nobody there")
class NobodyThere(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if handle.endpoint not in OPEN:
            raise ConnectionError("nobody there")
        super().carry(handle, datagram)


@notices("a_path_that_is_gone_is_told_once", "twice")
class TellsAgain(Wire):
    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        super().carry(handle, datagram)
        if handle.endpoint not in OPEN:
            self.context.inbound.path_closed(handle, "gone")


@notices("a_path_that_is_gone_is_told_once", "path_closed")
class NeverTells(Wire):
    reveals_endpoint = False


#: What the broken ones left: undone after each test.
LEFT: list[Any] = []


def suite(kind: type[Wire], seconds: float) -> TransportConformance:
    """The kit's class for a transport."""

    class Suite(TransportConformance):
        patience = seconds
        plugin = "wire"

        def settings(self, port: int, folder: Path) -> Mapping[str, Any]:
            return {"port": port}

        def registration(self) -> TransportRegistration:
            return TransportRegistration(summary="in memory", factory=kind, options=Options)

    return Suite()


def run(kind: type[Wire], test: str) -> None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            seconds = 2.0 if "full_queue" in test else 0.3  # that one has much to send
            anyio.run(partial(getattr(suite(kind, seconds), test), Path(folder)))
    finally:
        for undo in LEFT:
            undo()
        LEFT.clear()
        OPEN.clear()


TESTS = sorted({test for _, test, _ in BROKEN})


@pytest.mark.parametrize("test", TESTS)
def test_what_is_right_passes(test: str) -> None:
    run(Wire, test)


@pytest.mark.parametrize(
    ("kind", "test", "message"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN]
)
def test_what_is_wrong_is_noticed(kind: type[Wire], test: str, message: str) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        run(kind, test)
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert message in f"{type(error).__name__}: {error}"


def test_no_rule_is_without_a_transport_that_breaks_it() -> None:
    of_the_role = {
        name
        for name in dir(TransportConformance)
        if name.startswith("test_")
        and "Transport" in getattr(TransportConformance, name).__qualname__
    }
    assert of_the_role == set(TESTS)
