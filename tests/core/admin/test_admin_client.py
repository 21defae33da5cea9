from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunmesh.admin.client import ask
from tunmesh.admin.location import only_socket, socket_path
from tunmesh.errors import AdminError


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[None]:
    """Something at `path` that answers anything with `answer`, or never with None."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65536)
                if answer is None:
                    done.wait(5)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(5)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match=r"no node answers at .*: is tunmesh running"):
        ask(tmp_path / "none.sock", "status")


def test_a_dead_nodes_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(AdminError, match="is tunmesh running"):
        ask(path, "status")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a tunmesh node"),
        (b"[1]\n", "is not a tunmesh node"),
        (b'{"ok":false,"error":"busy"}\n', "the node refused status: busy"),
        (None, "did not answer within 0.1 s"),
    ],
)
def test_each_failure_is_one_line(tmp_path: Path, answer: bytes | None, message: str) -> None:
    path = tmp_path / "s"
    with (
        answering(path, answer),
        pytest.raises(AdminError, match=message) as caught,
    ):
        ask(path, "status", timeout=0.1)
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_a_socket(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="cannot ask the node"):
        ask(tmp_path / ("x" * 200), "status")


def test_socket_path() -> None:
    assert socket_path("", "tun1") == Path("/run/tunmesh/tun1.sock")
    assert socket_path("/run/x/<device>.sock", "tun7") == Path("/run/x/tun7.sock")
    assert socket_path("/tmp/a.sock", "tun1") == Path("/tmp/a.sock")


def test_only_socket(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="is tunmesh running"):
        only_socket(tmp_path)
    (tmp_path / "file.sock").write_text("")
    sockets = [tmp_path / "a.sock", tmp_path / "b.sock"]
    for number, path in enumerate(sockets):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
            bound.bind(str(path))
        if number == 0:
            assert only_socket(tmp_path) == path
    with pytest.raises(AdminError, match=r"several nodes run here.*a\.sock, .*b\.sock"):
        only_socket(tmp_path)
