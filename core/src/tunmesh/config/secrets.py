"""Where the mesh secrets of a node come from."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tunmesh.config.secretfile import SecretFile
from tunmesh.config.types import Config
from tunmesh.errors import ConfigError

#: The environment variable that may hold the mesh secret.
VARIABLE = "TUNMESH_SECRET"
#: Names the directory of the credentials that systemd gives a service, see systemd.exec(5).
CREDENTIALS = "CREDENTIALS_DIRECTORY"


def resolve_secrets(config: Config, environ: Mapping[str, str]) -> tuple[list[bytes], list[str]]:
    """The mesh secrets of a node, the one to use first, and what to warn about.

    What the configuration says goes before the environment.

    Raises:
        ConfigError: There is no secret, or one that must not be used.
    """
    key = "mesh.secret_file" if config.mesh.secret_file else "mesh.secret"
    path = config.origin.override(key) or config.path
    warnings = []
    if config.mesh.secret_file:
        content = read_secret_file(config.mesh.secret_file, path, environ.get(CREDENTIALS))
        texts = list(SecretFile.parse(content).secrets)
    elif config.mesh.secret:
        texts = [config.mesh.secret]
        if key in config.from_environment:
            warnings.append("mesh.secret comes from the environment: prefer mesh.secret_file")
        elif config.path and Path(config.path).stat().st_mode & stat.S_IROTH:
            warnings.append(f"mesh.secret stands in a file that others can read: {config.path}")
    elif text := environ.get(VARIABLE):
        texts, key, path = [text], f"${VARIABLE}", ""
        warnings.append(f"the secret comes from ${VARIABLE}: prefer mesh.secret_file")
    else:
        raise ConfigError(
            f"is required, or mesh.secret or ${VARIABLE}: `tunmesh secret generate` makes one",
            key="mesh.secret_file",
            path=path,
        )
    return [_checked(text, key, path, warnings) for text in texts], warnings


def read_secret_file(name: str, path: str, credentials: str | None) -> str:
    """The text of a file of secrets, which holds one at least.

    Args:
        name: The file.
        path: What names it, for errors.
        credentials: The directory in which systemd hands out credentials.

    Raises:
        ConfigError: It cannot be read, must not be used, or is empty.
    """
    key = "mesh.secret_file"
    forbidden = stat.S_IRGRP | stat.S_IROTH
    if credentials and Path(name).parent == Path(credentials):
        # There an access control list lets the service's user read; its mask looks like a group's
        # permission (acl(5)).
        forbidden = stat.S_IROTH
    try:
        with Path(name).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & forbidden:
                raise ConfigError(
                    f"{name} can be read by others than its owner: chmod 600 {name}",
                    key=key,
                    path=path,
                )
            text = file.read().decode()
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}", key=key, path=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8", key=key, path=path) from error
    if not text.strip("\r\n"):
        raise ConfigError(f"{name} is empty", key=key, path=path)
    return text


def _checked(text: str, key: str, path: str, warnings: list[str]) -> bytes:
    """The bytes of a secret that is good enough."""
    from tunmesh.identity.secrets import Secret, low_entropy  # noqa: PLC0415  # slow to import

    try:
        secret = bytes(Secret.from_text(text, key=key))
    except ConfigError as error:
        raise ConfigError(error.message, key=key, path=path) from error
    if low_entropy(secret):
        warnings.append(f"{key} is easy to guess: `tunmesh secret generate` makes a better one")
    return secret
