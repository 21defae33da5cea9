"""Each command has examples in its help, and the program takes them."""

from __future__ import annotations

import argparse
import shlex

import pytest

from tunmesh import cli
from tunmesh.cli.examples import EXAMPLES, parsers
from tunmesh.cli.plugins import load_plugins
from tunmesh.config import DEFAULT_PLUGINS, Config, PluginsOptions

#: What a shell makes of a line begins there.
_SHELL = {">", "|", "&&"}


def everything() -> argparse.ArgumentParser:
    """The parser with the commands of the plugins that live here."""
    parser, commands = cli.build()
    config = Config(plugins=PluginsOptions(enabled=DEFAULT_PLUGINS))
    assert load_plugins(config, strict=False).add_commands(commands) == []
    return parser


PARSER = everything()
COMMANDS = {
    " ".join(words): child
    for words, child in parsers(PARSER)
    if words and child.get_default("handler")
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_program_takes_its_examples(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    head, *lines = epilog.splitlines()
    assert head == "examples:"
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        end = next((at for at, word in enumerate(words) if word in _SHELL), len(words))
        assert program == "tunmesh"
        assert " ".join(words).startswith(name)
        PARSER.parse_args(words[:end])


def test_there_are_no_examples_of_what_does_not_exist() -> None:
    assert EXAMPLES.keys() <= COMMANDS.keys()


def test_help_keeps_the_lines_of_examples_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        PARSER.parse_args(["capture", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("  tunmesh capture")
    assert lines[-1] == "  tunmesh capture -w - | wireshark -k -i -"
