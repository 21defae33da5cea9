"""The command line. Parses arguments; what a command needs is imported when it is called.

Exit codes: 0 success, 1 a failure at run time, 2 wrong usage or wrong configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tunmesh import __version__
from tunmesh.cli.arguments import FILE_HELP as _FILE_HELP
from tunmesh.cli.arguments import Handler
from tunmesh.cli.arguments import add_file as _add_file
from tunmesh.cli.arguments import add_json as _add_json
from tunmesh.cli.arguments import add_node as _add_node
from tunmesh.cli.arguments import lazy as _lazy
from tunmesh.cli.diagnosis import add_diagnosis
from tunmesh.cli.examples import add_examples
from tunmesh.errors import ConfigError, PluginError, TunmeshError

if TYPE_CHECKING:
    from tunmesh.cli.arguments import Subparsers

#: Exit code of a program that was ended by SIGINT, as shells have it.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of ``tunmesh``."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser, commands = build()
    args = argparse.Namespace()
    try:
        command = next((word for word in arguments if not word.startswith("-")), None)
        if command is not None and command not in commands.choices:
            _add_plugin_commands(parser, commands, command)
        args = parser.parse_args(arguments)
        handler: Handler = args.handler
        code = handler(args)
        sys.stdout.flush()
    except TunmeshError as error:
        if getattr(args, "log_level", None) == "debug":
            traceback.print_exc()
        for line in str(error).splitlines():
            print(f"tunmesh: {line}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, PluginError)) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Nothing can be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


class Parser(argparse.ArgumentParser):
    """Tells about wrong usage in one line, and takes no abbreviations."""

    def __init__(self, **kwargs: Any) -> None:  # the arguments of ArgumentParser
        super().__init__(
            **{"allow_abbrev": False, "formatter_class": _Formatter, **kwargs}  # these may be told
        )

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Formatter(argparse.HelpFormatter):
    """Leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


class _Set(argparse.Action):
    """An option that stands for an assignment of ``--set``."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.set = [*namespace.set, f'log.{self.dest.removeprefix("log_")}="{values}"']


def build() -> tuple[argparse.ArgumentParser, Subparsers]:
    """The parser of the command line, and its commands; plugins may add some."""
    parser: argparse.ArgumentParser = Parser(
        prog="tunmesh",
        description="A layer-3 mesh VPN whose devices, transports and policies are plugins.",
        epilog="Selected plugins may add commands, as tunmesh-tun-linux adds: tunmesh demo",
    )
    parser.add_argument("--version", action="version", version=f"tunmesh {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_admin(commands)
    add_diagnosis(commands)
    _add_plugins(commands)
    _add_config(commands)
    _add_secret(commands)
    add_examples(parser)
    return parser, commands


def _add_run(commands: Subparsers) -> None:
    parser = commands.add_parser("run", help="run a node in the foreground")
    _add_configuration(parser)
    parser.add_argument(
        "--log-level",
        action=_Set,
        choices=("debug", "info", "warning", "error"),
        help="the same as --set log.level=…",
    )
    parser.add_argument(
        "--log-format", action=_Set, choices=("text", "json"), help="the same as --set log.format=…"
    )
    parser.set_defaults(handler=_lazy("tunmesh.node:run_command"))


def _add_admin(commands: Subparsers) -> None:
    for name, text in (
        ("status", "show the running node"),
        ("peers", "show the peers of the running node"),
        ("routes", "show the routes of the running node"),
        ("groups", "show the multicast groups of the running node"),
        ("reload", "have the running node read its configuration again"),
        ("stop", "stop the running node"),
    ):
        parser = commands.add_parser(name, help=text)
        _add_node(parser)
        if name != "stop":
            _add_json(parser)
        module = "reload" if name == "reload" else "status"
        parser.set_defaults(handler=_lazy(f"tunmesh.cli.{module}:{name}_command"))


def _add_plugins(commands: Subparsers) -> None:
    parser = commands.add_parser("plugins", help="list the plugins")
    _add_configuration(parser)
    _add_json(parser)
    parser.add_argument("--hooks", action="store_true", help="list the hooks that plugins may have")
    parser.set_defaults(handler=_lazy("tunmesh.cli.plugins:list_command"))
    actions = parser.add_subparsers(metavar="ACTION")
    check = actions.add_parser("check", help="load one plugin, and tell what it offers")
    check.add_argument("name", metavar="NAME")
    check.set_defaults(handler=_lazy("tunmesh.cli.plugins:check_command"))
    new = actions.add_parser("new", help="write the distribution of a new plugin, for its author")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--role", required=True, choices=("transport", "tun", "policy", "address"))
    new.add_argument("--directory", metavar="DIR", help="where to (default: tunmesh-NAME)")
    new.set_defaults(handler=_lazy("tunmesh.cli.new:new_command"))


def _add_config(commands: Subparsers) -> None:
    parser = commands.add_parser("config", help="write, check and show configurations")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    example = actions.add_parser("example", help="print a complete configuration with comments")
    _add_selection(example)
    example.set_defaults(handler=_lazy("tunmesh.cli.config:example_command"))
    check = actions.add_parser("check", help="tell everything that is wrong with a configuration")
    check.add_argument("config", metavar="FILE", nargs="?", help=_FILE_HELP)
    _add_overrides(check)
    check.set_defaults(handler=_lazy("tunmesh.cli.config:check_command"))
    shown = actions.add_parser("show", help="print the configuration in force, secrets masked")
    _add_configuration(shown)
    shown.set_defaults(handler=_lazy("tunmesh.cli.config:show_command"))
    imported = actions.add_parser(
        "import",
        help="translate a configuration of TunMesh 0.7 (YAML) to TOML",
        description="Prints the TOML, and on stderr what could not be carried over.",
    )
    imported.add_argument("file", metavar="FILE")
    imported.set_defaults(handler=_lazy("tunmesh.cli.config:import_command"))
    schema = actions.add_parser("schema", help="print the JSON Schema, for editors")
    _add_selection(schema)
    schema.set_defaults(handler=_lazy("tunmesh.cli.config:schema_command"))


def _add_secret(commands: Subparsers) -> None:
    parser = commands.add_parser("secret", help="make mesh secrets")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    generate = actions.add_parser("generate", help="print a new mesh secret")
    generate.set_defaults(handler=_lazy("tunmesh.cli.secret:generate_command"))
    rotate = actions.add_parser(
        "rotate",
        help="change the mesh secret in three steps, each done on all nodes before the next",
        description=(
            "Edits the file mesh.secret_file of this node and has the node that runs here read "
            "it. Do each step on all nodes before the next one. --add makes a secret and prints "
            "it, to be carried to the others: tunmesh secret rotate --add | ssh OTHER tunmesh "
            "secret rotate --add --from -"
        ),
    )
    step = rotate.add_mutually_exclusive_group(required=True)
    step.add_argument("--add", action="store_true", help="accept one more secret")
    step.add_argument("--use", action="store_true", help="begin sessions with the newest secret")
    step.add_argument("--retire", action="store_true", help="accept only the first secret")
    rotate.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="with --add: take the secret there; - is stdin",
    )
    rotate.add_argument(
        "--force", action="store_true", help="with --retire: though peers use an older secret yet"
    )
    _add_node(rotate)
    rotate.set_defaults(handler=_lazy("tunmesh.cli.secret:rotate_command"))


def _add_selection(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--plugins", metavar="A,B,…", help="the plugins to use, instead of plugins.enabled"
    )


def _add_overrides(parser: argparse._ActionsContainer) -> None:
    _add_selection(parser)
    parser.add_argument(
        "--set",
        metavar="KEY.PATH=VALUE",
        action="append",
        default=[],
        help="change the configuration; a TOML value, else a string; may be repeated",
    )


def _add_configuration(parser: argparse._ActionsContainer) -> None:
    _add_file(parser)
    _add_overrides(parser)


def _add_plugin_commands(
    parser: argparse.ArgumentParser, commands: Subparsers, command: str
) -> None:
    """Let the selected plugins add commands, as one is asked for that the core does not have."""
    from tunmesh.cli.plugins import load_plugins  # noqa: PLC0415  # slow, and rarely needed
    from tunmesh.config import load_config  # noqa: PLC0415
    from tunmesh.config.problems import suggestion  # noqa: PLC0415

    host = load_plugins(load_config(None, environ=os.environ), strict=False)
    errors = [
        *(entry.failure for entry in host.entries if entry.enabled and entry.failure),
        *host.add_commands(commands),
    ]
    if command not in commands.choices:
        hint = suggestion(command, commands.choices)
        reasons = "".join(f"; {error}" for error in errors)
        parser.error(f"there is no command {command}{hint}{reasons}")
