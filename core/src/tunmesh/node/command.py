"""``tunmesh run``."""

from __future__ import annotations

import argparse
import logging
import os
import signal

import anyio

from tunmesh import logs
from tunmesh.config import Config, ConfigErrors, load_config, resolve_secrets
from tunmesh.errors import TunmeshError
from tunmesh.loader.manager import PluginHost
from tunmesh.node.core import Node, first_error
from tunmesh.node.service import ServiceManager
from tunmesh.privileges import find_account, forbid_core_dumps, import_early

log = logging.getLogger(__name__)


def run_command(args: argparse.Namespace) -> int:
    """``tunmesh run``: run one node in the foreground.

    Returns:
        The exit code after an orderly stop: 0.

    Raises:
        TunmeshError: The configuration cannot be used, the node could not start or go on.
    """
    config = load_config(
        args.config, sets=args.set, plugins=args.plugins, environ=os.environ, complete=True
    )
    logs.setup(config.log.level, config.log.format)
    secrets, warnings = resolve_secrets(config, os.environ)
    os.environ.pop("TUNMESH_SECRET", None)  # children have no use for it
    with ServiceManager(os.environ) as service:
        _run(config, secrets, warnings, service)
    return 0


def _run(
    config: Config, secrets: list[bytes], warnings: list[str], service: ServiceManager
) -> None:
    plugins = PluginHost(config)
    plugins.discover()
    plugins.load(config.plugins.enabled, explicit=config.explicit_plugins)
    if problems := plugins.option_problems():
        raise ConfigErrors(problems)
    plugins.require("tun", "transport")
    account = find_account(config.node.user) if config.node.user else None
    if account is not None:
        import_early()
    forbid_core_dumps()  # they would hold keys
    node = Node(config, plugins, secrets, account, service)
    for warning in warnings:
        log.warning("secret %s", warning)
    try:
        anyio.run(_main, node, backend_options={"use_uvloop": True})
    except* TunmeshError as group:
        raise first_error(group) from None


async def _main(node: Node) -> None:
    async with anyio.create_task_group() as tasks:

        async def signals() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                async for _ in received:
                    node.stop()

        async def run() -> None:
            await node.run()
            tasks.cancel_scope.cancel()

        tasks.start_soon(signals)
        tasks.start_soon(run)
