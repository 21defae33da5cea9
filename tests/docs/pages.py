"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generated import expand

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\s`]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
#: What a command may stand behind.
_BEFORE = {"&&", "||", ";", "|", "exec", "sudo"}
#: What ends it in a shell.
_OPERATORS = {">", ">>", "<", "|", "&", "&&", "||", ";", "2>", "2>&1"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """What users read: the documentation and the files at the top. Decisions tell of the past."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "adr"]
    return [*found, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def text_of(path: Path) -> str:
    """A page with its generated parts."""
    return expand(path.read_text())


def blocks(*languages: str) -> list[Block]:
    """All fenced blocks of some languages."""
    return [
        Block(str(path.relative_to(ROOT)), match["language"], _without(match["indent"], match))
        for path in pages()
        for match in _FENCE.finditer(path.read_text())
        if match["language"] in languages
    ]


def _without(indent: str, match: re.Match[str]) -> str:
    return re.sub(f"^{indent}", "", match["text"], flags=re.MULTILINE)


def inline(path: Path) -> list[str]:
    """The pieces of code within the sentences of a page, as written by hand or generated."""
    return [re.sub(r"\s+", " ", code) for code in _INLINE.findall(_FENCE.sub("", text_of(path)))]


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Every command line of a program that a page shows, with the name of the page."""
    for block in blocks("sh", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield from ((block.page, words) for words in _commands(line, program))
    for path in pages():
        for code in inline(path):
            if code.startswith(f"{program} "):
                yield from (
                    (str(path.relative_to(ROOT)), words) for words in _commands(code, program)
                )


def _commands(line: str, program: str) -> Iterator[list[str]]:
    words = shlex.split(line, comments=True)
    begins = [
        at
        for at, word in enumerate(words)
        if word.rpartition("/")[2] == program and (not at or words[at - 1] in _BEFORE)
    ]
    for begin in begins:
        rest = words[begin + 1 :]
        end = next((at for at, word in enumerate(rest) if word in _OPERATORS), len(rest))
        yield rest[:end]
