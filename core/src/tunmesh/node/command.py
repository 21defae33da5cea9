"""``tunmesh run``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from functools import partial

import anyio

from tunmesh import logs
from tunmesh.config import Config, ConfigErrors, read_config, resolve_secrets
from tunmesh.errors import TunmeshError
from tunmesh.loader.manager import PluginHost
from tunmesh.node.core import Node, first_error
from tunmesh.node.reloading import Source
from tunmesh.node.service import ServiceManager
from tunmesh.privileges import find_account, forbid_core_dumps, import_early

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_command(args: argparse.Namespace) -> int:
    """``tunmesh run``: run one node in the foreground.

    Returns:
        The exit code after an orderly stop: 0.

    Raises:
        TunmeshError: The configuration cannot be used, the node could not start or go on.
    """
    environ = dict(os.environ)  # as it is now, for reading everything again, too
    read = partial(
        read_config,
        args.config,
        sets=args.set,
        plugins=args.plugins,
        environ=environ,
        complete=True,
    )
    source = Source(read, partial(resolve_secrets, environ=environ))
    config, problems = read()
    if problems:
        raise ConfigErrors(problems)
    logs.setup(config.log.level, config.log.format)
    secrets, warnings = source.secrets(config)
    os.environ.pop("TUNMESH_SECRET", None)  # children have no use for it
    with ServiceManager(os.environ) as service:
        _run(config, secrets, warnings, service, source)
    return 0


def _run(
    config: Config,
    secrets: list[bytes],
    warnings: list[str],
    service: ServiceManager,
    source: Source,
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
    node = Node(config, plugins, secrets, account, service, source)
    for warning in warnings:
        log.warning("secret %s", warning)
    try:
        anyio.run(_main, node, backend_options={"use_uvloop": True})
    except* TunmeshError as group:
        raise first_error(group) from None


async def _main(node: Node) -> None:
    async with anyio.create_task_group() as tasks:

        async def signals() -> None:
            with anyio.open_signal_receiver(*_SIGNALS) as received:
                async for number in received:
                    if number == signal.SIGHUP:
                        tasks.start_soon(node.reload)
                    else:
                        node.stop()

        async def run() -> None:
            await node.run()
            tasks.cancel_scope.cancel()

        tasks.start_soon(signals)
        tasks.start_soon(run)
