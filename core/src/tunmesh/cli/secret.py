"""``tunmesh secret``: mesh secrets, and how they are changed without an outage."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tunmesh.admin.client import ask
from tunmesh.cli.reload import reload_node
from tunmesh.cli.status import find_socket
from tunmesh.config import load_config
from tunmesh.config.secretfile import SecretFile, replace_file
from tunmesh.config.secrets import CREDENTIALS, read_secret_file
from tunmesh.errors import AdminError, ConfigError
from tunmesh.identity.secrets import Secret, derive, generate_secret

#: The longest secret that is read from elsewhere.
_LONGEST = 4096


def generate_command(_args: argparse.Namespace) -> int:
    """Print a new mesh secret."""
    print(generate_secret())
    return 0


def rotate_command(args: argparse.Namespace) -> int:
    """Do one step of changing the secret: edit this node's file, then have the node read it.

    Nothing secret is printed but a secret that this makes: the other nodes need it.
    """
    config = load_config(args.config, environ=os.environ)
    name = config.mesh.secret_file
    if not name:
        raise ConfigError(
            "is not set: secrets that are elsewhere must be changed there",
            key="mesh.secret_file",
            path=config.path,
        )
    if args.source and not args.add:
        raise ConfigError("--from belongs to --add")
    before = SecretFile.parse(read_secret_file(name, config.path, os.environ.get(CREDENTIALS)))
    made = ""
    if args.add:
        secret = _read_secret(args.source) if args.source else generate_secret()
        made = "" if args.source else secret
        after = before.add(secret)
    elif args.use:
        after = before.use()
    else:
        after = before.retire()
        if after != before and not args.force:
            _expect_nobody_behind(args)
    if after != before:
        try:
            replace_file(Path(name), after.text())
        except OSError as error:
            raise ConfigError(
                f"{name} cannot be replaced: {error.strerror}", key="mesh.secret_file"
            ) from error
    shown = [derive(text.encode(), config.mesh.name).psk_id.hex() for text in after.secrets]
    note = "" if after != before else " (as before)"
    print(f"{name}: secrets, the first is used: {' '.join(shown)}{note}", file=sys.stderr)
    if made:
        print("for each of the other nodes: tunmesh secret rotate --add --from -", file=sys.stderr)
        print(made)
    return _reload(args)


def _read_secret(source: str) -> str:
    """A secret from a file, or from standard input."""
    try:
        if source == "-":
            text = sys.stdin.read(_LONGEST)
        else:
            with Path(source).open(encoding="utf-8") as file:
                text = file.read(_LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--from {source}: {error}") from error
    text = text.rstrip("\r\n")
    if "\n" in text:
        raise ConfigError(f"--from {source}: one secret is expected, on one line")
    Secret.from_text(text, key=f"--from {source}")
    return text


def _expect_nobody_behind(args: argparse.Namespace) -> None:
    """Refuse what would cut off peers that use an older secret yet, if a node runs here."""
    try:
        behind = ask(find_socket(args), "status")["mesh"]["peers_old_secret"]
    except AdminError:
        return  # nobody is connected
    if behind:
        raise AdminError(
            f"{behind} peers have sessions by an older secret: do --use on all nodes, and wait "
            "for timing.rekey_after; or --force"
        )


def _reload(args: argparse.Namespace) -> int:
    """Have the node that runs read the file; the exit code."""
    try:
        socket = find_socket(args)
        ask(socket, "status")
    except AdminError as error:
        print(f"nobody was told: {error}", file=sys.stderr)
        return 0
    return reload_node(socket, quiet=True)
