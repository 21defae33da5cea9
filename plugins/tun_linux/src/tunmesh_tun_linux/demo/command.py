"""The command itself: what it needs before the story begins, and the cleaning up after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tunmesh import __version__
from tunmesh.errors import TunmeshError
from tunmesh_tun_linux.demo import namespaces, signals, story
from tunmesh_tun_linux.demo.nodes import Node, default_plugins, stop_all, write_secret
from tunmesh_tun_linux.demo.screen import Screen, make_screen

MOST_NODES = 32


def run(*, nodes: int, keep: bool, plugins: str | None) -> int:
    """Run the demo.

    Args:
        nodes: How many nodes.
        keep: Whether the mesh stays up until Ctrl-C.
        plugins: Names of the plugins of every node, separated by commas.

    Returns:
        The exit code.
    """
    screen = make_screen()
    if not 2 <= nodes <= MOST_NODES:
        screen.failure(f"--nodes {nodes}: a demo has 2 to {MOST_NODES} nodes")
        return 2
    chosen = [name.strip() for name in plugins.split(",")] if plugins else default_plugins()
    signals.interrupt()
    try:
        _run(screen, nodes, keep=keep, plugins=chosen)
    except TunmeshError as exc:
        screen.failure(str(exc))
        return 1
    except KeyboardInterrupt:
        screen.failure("interrupted, and cleaned up")
        raise
    return 0


def _run(screen: Screen, count: int, *, keep: bool, plugins: Sequence[str]) -> None:
    in_user_namespace = namespaces.become_root()
    with ExitStack() as stack:
        stack.enter_context(namespaces.only_one())
        directory = stack.enter_context(_directory())
        nodes = [Node(number, directory) for number in range(1, count + 1)]
        namespaces.remove_all()  # those that a killed demo left behind
        stack.callback(_clean_up, screen, nodes)
        screen.headline(f"tunmesh {__version__}: a mesh of {count} nodes on this machine")
        write_secret(directory)
        story.build_network(screen, nodes)
        story.form_mesh(screen, nodes, plugins)
        story.ping_everybody(screen, nodes)
        story.broadcast(screen, nodes[0], nodes[1:])
        if "igmp" in plugins:
            story.reach_group(screen, nodes)
        story.measure_throughput(screen, nodes[0], nodes[1])
        if keep:
            story.keep_running(screen, nodes, in_user_namespace=in_user_namespace)


@contextmanager
def _directory() -> Iterator[Path]:
    """Where the nodes' files are: only root may write beside it, so the name can be a fixed one."""
    path = Path("/var/run").resolve() / "tunmesh-demo"
    shutil.rmtree(path, ignore_errors=True)  # from a killed demo
    try:
        path.mkdir(mode=0o700)
    except OSError as exc:
        raise namespaces.DemoError(f"cannot make {path}: {exc.strerror}") from exc
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _clean_up(screen: Screen, nodes: Sequence[Node]) -> None:
    signals.ignore()
    with ExitStack() as stack:
        # Also when the screen is gone, as when a terminal was closed or a pipe's reader ended.
        stack.callback(namespaces.remove_all)
        stack.callback(stop_all, nodes)
        step = stack.enter_context(screen.step("clean-up"))
        killed = stop_all(nodes)
        namespaces.remove_all()
        step.update(f"{len(nodes)} nodes stopped, their namespaces removed")
        if killed:
            step.update(f"killed {', '.join(killed)}, which did not stop; namespaces removed")
