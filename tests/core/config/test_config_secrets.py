from __future__ import annotations

from pathlib import Path

import pytest

from tunmesh.config import Config, load_config, resolve_secrets
from tunmesh.errors import ConfigError

GOOD = "mSaEUt0_ux2rw-TUewiq_yalE5-8K9Ll5j74dqyNIOs"
OTHER = "Yx2rw0_uSaEUtmTUewiq_yal-E8K95-Ll5j74dqyNIOs"


def config(directory: Path, text: str, mode: int = 0o600, **environ: str) -> Config:
    path = directory / "x.toml"
    path.write_text(f"[mesh]\n{text}\n")
    path.chmod(mode)
    return load_config(str(path), environ=environ)


def secret_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "mesh.secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def failure(config: Config, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(config, environ)
    return str(caught.value).replace(config.path, "FILE")


def test_an_inline_secret_of_a_private_file(tmp_path: Path) -> None:
    assert resolve_secrets(config(tmp_path, f"secret = '{GOOD}'"), {}) == ([GOOD.encode()], [])


def test_an_inline_secret_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    secrets, warnings = resolve_secrets(config(tmp_path, f"secret = '{GOOD}'", 0o644), {})
    assert secrets == [GOOD.encode()]
    (warning,) = warnings
    assert warning.startswith("mesh.secret stands in a file that others can read: ")


def test_an_inline_secret_of_the_environment_is_warned_about(tmp_path: Path) -> None:
    found = config(tmp_path, "secret = '${S}'", 0o644, S=GOOD)
    assert resolve_secrets(found, {}) == (
        [GOOD.encode()],
        ["mesh.secret comes from the environment: prefer mesh.secret_file"],
    )


def test_the_variable_is_used_last_and_warned_about(tmp_path: Path) -> None:
    environ = {"TUNMESH_SECRET": OTHER}
    assert resolve_secrets(config(tmp_path, ""), environ) == (
        [OTHER.encode()],
        ["the secret comes from $TUNMESH_SECRET: prefer mesh.secret_file"],
    )
    assert resolve_secrets(config(tmp_path, f"secret = '{GOOD}'"), environ)[0] == [GOOD.encode()]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_file_relative_to_the_configuration(tmp_path: Path, end: str) -> None:
    secret_file(tmp_path, (GOOD + end).encode())
    found = config(tmp_path, "secret_file = 'mesh.secret'")
    assert resolve_secrets(found, {}) == ([GOOD.encode()], [])


def test_a_file_of_several_secrets(tmp_path: Path) -> None:
    secret_file(tmp_path, f"{GOOD}\n\n{OTHER}\n".encode())
    found = config(tmp_path, "secret_file = 'mesh.secret'")
    assert resolve_secrets(found, {})[0] == [GOOD.encode(), OTHER.encode()]


def test_a_credential_of_a_service_may_look_readable_for_a_group(tmp_path: Path) -> None:
    file = secret_file(tmp_path, GOOD.encode(), 0o440)
    found = config(tmp_path, "secret_file = 'mesh.secret'")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve_secrets(found, environ) == ([GOOD.encode()], [])
    assert "chmod 600" in failure(found)
    assert "chmod 600" in failure(found, CREDENTIALS_DIRECTORY=str(tmp_path.parent))
    file.chmod(0o444)
    assert "chmod 600" in failure(found, **environ)


def test_spaces_belong_to_the_secret(tmp_path: Path) -> None:
    secret_file(tmp_path, f" {GOOD} \n".encode())
    found = config(tmp_path, "secret_file = 'mesh.secret'")
    assert resolve_secrets(found, {})[0] == [f" {GOOD} ".encode()]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, GOOD.encode(), mode)
    assert failure(config(tmp_path, "secret_file = 'mesh.secret'")) == (
        f"FILE: mesh.secret_file: {path} can be read by others than its owner: chmod 600 {path}"
    )


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    found = config(tmp_path, "secret_file = 'mesh.secret'")
    path = tmp_path / "mesh.secret"
    assert failure(found) == f"FILE: mesh.secret_file: {path}: No such file or directory"
    secret_file(tmp_path, b"\n\n")
    assert failure(found) == f"FILE: mesh.secret_file: {path} is empty"
    secret_file(tmp_path, b"\xff" * 40)
    assert failure(found) == f"FILE: mesh.secret_file: {path} is not UTF-8"


def test_a_short_secret_is_refused_and_not_told(tmp_path: Path) -> None:
    message = failure(config(tmp_path, "secret = 'swordfish'"))
    assert message.startswith("FILE: mesh.secret: a secret needs 32 characters")
    assert "swordfish" not in message
    assert failure(config(tmp_path, ""), TUNMESH_SECRET="x").startswith("$TUNMESH_SECRET: ")


def test_a_guessable_secret_is_warned_about(tmp_path: Path) -> None:
    (warning,) = resolve_secrets(config(tmp_path, f"secret = '{'a' * 32}'"), {})[1]
    assert warning.startswith("mesh.secret is easy to guess")


def test_a_node_needs_a_secret(tmp_path: Path) -> None:
    assert failure(config(tmp_path, "")).startswith("FILE: mesh.secret_file: is required")
