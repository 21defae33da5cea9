"""Every command with its options, made of the argument parsers."""

from __future__ import annotations

import argparse
import functools
import re

from docs.generated.sources import plugins, prose
from tunmesh import cli


@functools.cache
def parser() -> argparse.ArgumentParser:
    """The parser of ``tunmesh``, with the commands of all plugins of the default configuration."""
    whole, commands = cli.build()  # what the program itself parses with
    if failed := plugins().add_commands(commands):
        raise ExceptionGroup("plugins that cannot add their commands", failed)
    return whole


def commands() -> str:
    """Every command with its options."""
    return "\n".join(_command(parser(), []))


def _command(current: argparse.ArgumentParser, words: list[str]) -> list[str]:
    nested = [
        action
        for action in current._actions  # noqa: SLF001  # argparse has no public way to look
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    ]
    lines = []
    if words and (not nested or current.get_default("handler")):
        title = " ".join(["tunmesh", *words])
        usage = re.sub(r"\s+", " ", current.format_usage().removeprefix("usage: ")).strip()
        lines += [f"## {title}", "", *_sentence(current), "```text", usage, "```", ""]
        lines += _options(current)
        if current.epilog:
            lines += ["```text", current.epilog.strip(), "```", ""]
    for action in nested:
        for name, child in action.choices.items():
            lines += _command(child, [*words, name])
    return lines


def _sentence(current: argparse.ArgumentParser) -> list[str]:
    text = (current.description or _help_of(current)).strip()
    return [f"{text[:1].upper()}{text[1:].removesuffix('.')}.", ""] if text else []


def _help_of(current: argparse.ArgumentParser) -> str:
    """What the list of commands says of a command that has no description."""
    stack = [parser()]
    while stack:
        for action in stack.pop()._actions:  # noqa: SLF001
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                for choice in action._choices_actions:  # noqa: SLF001
                    if action.choices[choice.dest] is current:
                        return choice.help or ""
                stack += action.choices.values()
    return ""


def _options(current: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in current._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):  # noqa: SLF001
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.option_strings and action.nargs != 0:
            choices = "|".join(map(str, action.choices)) if action.choices else ""
            name += f" {choices or action.metavar or action.dest.upper()}"
        text = (action.help or "").replace("%(default)s", str(action.default))
        rows.append("| `{}` | {} |".format(name.replace("|", "\\|"), prose(text)))
    return ["| argument | meaning |", "| --- | --- |", *rows, ""] if rows else []
