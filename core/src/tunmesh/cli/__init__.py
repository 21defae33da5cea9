"""The command line. Parses arguments; what a command needs is imported when it is called.

Exit codes: 0 success, 1 a failure at run time, 2 wrong usage or wrong configuration.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tunmesh import __version__
from tunmesh.errors import ConfigError, PluginError, TunmeshError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # has no public name

Handler = Callable[[argparse.Namespace], int]

#: Exit code of a program that was ended by SIGINT, as shells have it.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of ``tunmesh``."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser, commands = _build()
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
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


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


def _lazy(target: str) -> Handler:
    """A handler whose module is imported when it is called."""

    def handler(args: argparse.Namespace) -> int:
        module, _, name = target.partition(":")
        function: Handler = getattr(importlib.import_module(module), name)
        return function(args)

    return handler


def _build() -> tuple[argparse.ArgumentParser, Subparsers]:
    parser: argparse.ArgumentParser = Parser(
        prog="tunmesh",
        description="A layer-3 mesh VPN whose devices, transports and policies are plugins.",
        epilog="Selected plugins may add commands, as tunmesh-tun-linux adds: tunmesh demo",
    )
    parser.add_argument("--version", action="version", version=f"tunmesh {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_admin(commands)
    _add_diagnosis(commands)
    _add_plugins(commands)
    _add_config(commands)
    _add_secret(commands)
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


def _add_diagnosis(commands: Subparsers) -> None:
    top = commands.add_parser(
        "top",
        help="show peers, throughput, paths and drops, live",
        description="Shows peers, throughput, round-trip times, loss, paths and drops of the "
        "running node, anew each second, until Ctrl-C.",
    )
    top.add_argument("--once", action="store_true", help="show them once, after one interval")
    top.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="S",
        help="seconds, 0.1 to 3600, default 1",
    )
    _add_node(top)
    top.set_defaults(handler=_lazy("tunmesh.cli.top:top_command"))
    explain = commands.add_parser(
        "explain",
        help="tell what would become of a packet",
        description="Tells what this node would do with a packet, and what the node says that it "
        "would go to.",
    )
    explain.add_argument("source", metavar="SRC", help="address of its sender; - for this node's")
    explain.add_argument("destination", metavar="DST", help="address of its receiver")
    _add_node(explain)
    _add_json(explain)
    explain.set_defaults(handler=_lazy("tunmesh.cli.explain:explain_command"))
    capture = commands.add_parser(
        "capture",
        help="show packets as they pass, with what becomes of them",
        description="Shows packets as they pass the running node, with what becomes of them, until "
        "Ctrl-C. Superpackets are shown as the packets that they stand for.",
    )
    capture.add_argument(
        "--point",
        action="append",
        choices=("inside", "outside", "dropped"),
        help="where to look: what this host sends, what it is sent, what is dropped; may be "
        "repeated (default: all, so that a dropped packet shows twice)",
    )
    capture.add_argument("--count", type=_positive, metavar="N", help="end after so many packets")
    capture.add_argument("--seconds", type=float, metavar="N", help="end after so long")
    capture.add_argument(
        "--snaplen",
        type=_snap,
        default=65535,
        metavar="BYTES",
        help="bytes of a packet to keep, 20 to 65535 (default: all)",
    )
    capture.add_argument(
        "-w",
        "--write",
        metavar="FILE",
        help="write pcapng instead of text; - for the standard output",
    )
    _add_node(capture)
    capture.set_defaults(handler=_lazy("tunmesh.cli.capture:capture_command"))
    doctor = commands.add_parser(
        "doctor",
        help="tell what is wrong with this host, and how to mend it",
        description="Looks at this host, at the configuration and, if one runs, at the node. "
        "Changes nothing. Exit code 1 if something does not work.",
    )
    _add_file(doctor)
    doctor.add_argument("--socket", metavar="PATH", help="the node's admin socket")
    _add_json(doctor)
    doctor.set_defaults(handler=_lazy("tunmesh.cli.doctor:doctor_command"))


def _interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 3600")
    return value


def _positive(text: str) -> int:
    return _number(text, 1, 2**63)


def _snap(text: str) -> int:
    return _number(text, 20, 65535)


def _number(text: str, least: int, most: int) -> int:
    """A number of the command line.

    Raises:
        ArgumentTypeError: It is none, or not within the bounds.
    """
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number from {least} on, as far as {most}"
        )
    return int(text)


def _add_node(parser: argparse.ArgumentParser) -> None:
    """Which running node is meant."""
    which = parser.add_mutually_exclusive_group()
    _add_file(which)
    which.add_argument("--socket", metavar="PATH", help="the node's admin socket")


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


_FILE_HELP = "the configuration (default: $TUNMESH_CONFIG, or /etc/tunmesh/tunmesh.toml)"


def _add_file(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help=_FILE_HELP)


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


def _add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


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
