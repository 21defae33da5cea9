from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.config.secretfile import SecretFile, replace_file
from tunmesh.errors import ConfigError


def test_the_three_steps() -> None:
    first = SecretFile.parse("old\n")
    assert (first.secrets, first.settled) == (("old",), True)
    added = first.add("new")
    assert added.text() == "old\nnew\n"
    used = added.use()
    assert used.text() == "new\n\nold\n"
    assert used.retire().text() == "new\n"


def test_each_step_may_be_done_twice() -> None:
    added = SecretFile.parse("old\n").add("new")
    assert added.add("new") == added
    used = SecretFile.parse(added.use().text())
    assert used.use() == used
    retired = SecretFile.parse(used.retire().text())
    assert retired.retire() == retired
    assert retired.use() == retired


def test_steps_out_of_order_are_refused() -> None:
    added = SecretFile.parse("old\r\nnew\r\n")
    assert added.secrets == ("old", "new")
    with pytest.raises(ConfigError, match="--use comes first"):
        added.retire()
    with pytest.raises(ConfigError, match="under way"):
        added.add("third")


@given(st.lists(st.text("abc", min_size=1), min_size=1, unique=True), st.booleans())
def test_files_are_read_as_they_were_written(secrets: list[str], settled: bool) -> None:
    file = SecretFile(tuple(secrets), settled or len(secrets) == 1)
    assert SecretFile.parse(file.text()) == file


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    file, link = tmp_path / "mesh.secret", tmp_path / "link"
    file.write_text("old\n")
    file.chmod(0o400)
    link.symlink_to(file)
    before = file.stat()
    replace_file(link, "new\n")
    assert file.read_text() == "new\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert file.stat().st_uid == before.st_uid
    assert file.stat().st_ino != before.st_ino
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"link", "mesh.secret"}


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mesh.secret"
    file.write_text("old\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, "new\n")
    assert file.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [file]
