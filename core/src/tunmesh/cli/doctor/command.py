"""The command: gathers the findings of core and plugins, and shows them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tunmesh.admin.client import ask
from tunmesh.admin.status import Status
from tunmesh.cli.doctor.checks import check_host, check_node, check_state_dir
from tunmesh.cli.plugins import load_plugins
from tunmesh.cli.status import find_socket, safe_line
from tunmesh.config import Config, ConfigErrors, Problem, read_config, resolve_secrets
from tunmesh.errors import AdminError, ConfigError, PluginError
from tunmesh.interfaces.checks import Finding, HostView, Level

if TYPE_CHECKING:
    import argparse

    from tunmesh.loader import PluginHost

#: Where files of the host begin; elsewhere in tests.
ROOT = Path("/")
_DEVICE = "tun1"
_ORDER = {"broken": 0, "warning": 1, "notice": 2, "ok": 3}
#: A finding, and the plugin that found it; empty for the core.
_Found = tuple[str, Finding]


def doctor_command(args: argparse.Namespace) -> int:
    """Look for what is wrong; exit code 1 if something does not work."""
    config, found = _configuration(args)
    status, answer = _node(args)
    found += [("", finding) for finding in answer]
    device = status.device.name if status is not None else ""
    configured = str(config.plugins.tables.get("tun_linux", {}).get("device", "")) or _DEVICE
    host = HostView(
        networks=config.mesh.networks,
        addresses=config.node.addresses,
        subnets=tuple(subnet.prefix for subnet in config.node.subnets),
        device=device,
        root=ROOT,
    )
    found += [("", item) for item in check_host(host, (configured, device), time.time())]
    if config.node.state_dir:
        found += [("", item) for item in check_state_dir(Path(config.node.state_dir))]
    plugins = load_plugins(config, strict=False)
    found += [("", finding) for finding in _plugins(plugins)]
    found += plugins.check_host(host)
    found.sort(key=lambda item: _ORDER[item[1].level])
    broken = any(finding.level == "broken" for _, finding in found)
    if args.json:
        findings = [{**asdict(finding), "plugin": plugin or None} for plugin, finding in found]
        print(json.dumps({"schema": 1, "healthy": not broken, "findings": findings}, indent=1))
    else:
        print("\n".join(lines(found)))
    return 1 if broken else 0


def lines(found: Iterable[_Found]) -> Iterator[str]:
    """The findings for a person."""
    for _, finding in found:
        level = finding.level if finding.level != "broken" else "BROKEN"
        yield f"{level:<8}  {safe_line(finding.check):<14}  {safe_line(finding.text)}"
        if finding.mend:
            yield f"{'':8}  {'':14}  mend: {safe_line(finding.mend)}"


def _configuration(args: argparse.Namespace) -> tuple[Config, list[_Found]]:
    """The configuration as far as it is good, and what is wrong with it."""
    problems: list[Problem] = []
    found: list[Finding] = []
    try:
        config, problems = read_config(args.config, environ=os.environ, complete=True)
    except ConfigErrors as errors:
        config = Config()
        found += [_of_configuration(text) for text in errors.problems]
    found += [_of_configuration(str(problem)) for problem in problems]
    readable = config.path or not found  # what is in a file that cannot be read is unknown
    if readable and not any(problem.key.startswith("mesh.secret") for problem in problems):
        try:
            warnings = resolve_secrets(config, os.environ)[1]
        except ConfigError as error:
            text, _, command = str(error).rpartition(": ")
            mend = command if command.startswith("chmod") else "tunmesh secret generate"
            found.append(Finding("secret", "broken", text or str(error), mend))
        else:
            found += [Finding("secret", "warning", text, _better(text)) for text in warnings]
    if not found:
        found.append(Finding("configuration", "ok", f"{config.path or 'the default'} is good"))
    return config, [("", finding) for finding in found]


def _of_configuration(problem: str) -> Finding:
    return Finding("configuration", "broken", problem, "tunmesh config check, after the change")


def _better(warning: str) -> str:
    """What to do about a secret that is known to others, or might be."""
    _, readable, path = warning.partition("others can read: ")
    if readable:
        return f"chmod 600 {path}"
    return "tunmesh secret generate, into a file that mesh.secret_file names"


def _node(args: argparse.Namespace) -> tuple[Status | None, list[Finding]]:
    """The status of the running node, and what it says of itself."""
    try:
        status = msgspec.convert(ask(find_socket(args), "status"), Status)
    except ConfigError:
        return None, []  # told already
    except AdminError as error:
        return None, [Finding("node", "notice", f"{error}", "tunmesh run")]
    except msgspec.ValidationError as error:
        text = f"the node's answer is of another version: {error}"
        return None, [Finding("node", "warning", text, "restart the node")]
    return status, list(check_node(status))


def _plugins(host: PluginHost) -> Iterator[Finding]:
    """Plugins that were selected and cannot be used."""
    for problem in host.option_problems():
        yield _of_configuration(str(problem))
    for entry in host.entries:
        if entry.enabled and entry.failure is not None:
            level: Level = "broken" if entry.explicit else "notice"
            yield Finding(
                "plugins", level, str(entry.failure), f"tunmesh plugins check {entry.name}"
            )
    try:
        host.require("tun", "transport")
    except (ConfigErrors, PluginError) as error:
        yield from map(_of_configuration, str(error).splitlines())
