import re

import pytest

from docs.generated.commands import commands as reference
from docs.generated.commands import parser
from tests.docs.pages import ROOT, commands

SHOWN = list(commands("tunmesh"))
NAMES = set(re.findall(r"^## tunmesh (.+)$", reference(), re.MULTILINE))


def test_many_commands_are_shown() -> None:
    assert len(SHOWN) > 40


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=lambda part: " ".join(part) if isinstance(part, list) else None
)
def test_the_program_takes_what_a_page_shows(
    page: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if " ".join(words) in NAMES:  # it is spoken of, not shown
        return
    code: object = 0
    try:
        parser().parse_args(words)
    except SystemExit as end:
        code = end.code
    assert not code, f"{page}: tunmesh {' '.join(words)}: {capsys.readouterr().err}"


def test_the_makefile_has_what_a_page_shows() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {(page, word) for page, words in commands("make") for word in words[:1]}
    assert shown
    assert {(page, word) for page, word in shown if word not in targets} == set()
