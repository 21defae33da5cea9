"""Examples for the help of each command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

#: By the words of the command, without ``tunmesh``.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "run -c mesh.toml",
        "run -c mesh.toml --set node.name=b --log-level debug",
    ),
    "status": ("status", "status --socket /run/tunmesh/tun1.sock --json"),
    "peers": ("peers", "peers --json"),
    "routes": ("routes", "routes -c mesh.toml"),
    "groups": ("groups", "groups --json"),
    "stop": ("stop", "stop --socket /run/tunmesh/tun1.sock"),
    "reload": ("reload", "reload -c mesh.toml"),
    "top": ("top", "top --once", "top --interval 0.5"),
    "explain": (
        "explain - 10.42.1.2",
        "explain 192.168.7.5 10.42.1.2 --json",
    ),
    "capture": (
        "capture --point dropped",
        "capture --count 100 -w mesh.pcapng",
        "capture -w - | wireshark -k -i -",
    ),
    "doctor": ("doctor", "doctor -c mesh.toml --json"),
    "completion": (
        "completion bash > /etc/bash_completion.d/tunmesh",
        "completion zsh > /usr/share/zsh/site-functions/_tunmesh",
        "completion fish > ~/.config/fish/completions/tunmesh.fish",
    ),
    "plugins": ("plugins", "plugins --plugins tun_linux,udp --json", "plugins --hooks"),
    "plugins check": ("plugins check udp",),
    "plugins new": ("plugins new radio --role transport",),
    "config example": ("config example > mesh.toml", "config example --plugins tun_linux,udp"),
    "config check": ("config check mesh.toml",),
    "config show": ("config show -c mesh.toml --set node.name=b",),
    "config schema": ("config schema > tunmesh.schema.json",),
    "config import": ("config import tun_mesh.yaml > mesh.toml",),
    "secret rotate": (
        "secret rotate --add -c mesh.toml",
        "secret rotate --add | ssh OTHER tunmesh secret rotate --add --from -",
        "secret rotate --use",
        "secret rotate --retire",
    ),
    "secret generate": ("secret generate > mesh.secret && chmod 600 mesh.secret",),
}


def parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """A parser and those of its commands, each with the words that lead to it."""
    yield words, parser
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to look
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, child in action.choices.items():
                yield from parsers(child, (*words, name))


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Show its examples in the help of each command."""
    for words, child in parsers(parser):
        lines = EXAMPLES.get(" ".join(words), ())
        if lines:
            child.epilog = "\n".join(["examples:", *(f"  tunmesh {line}" for line in lines)])
