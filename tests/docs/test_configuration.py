import re
from collections import Counter
from pathlib import Path

import pytest
import tomli

from docs.generated.configuration import keys
from tests.docs.pages import DOCS, ROOT, Block, blocks, inline, pages, text_of
from tunmesh.cli.plugins import load_plugins
from tunmesh.config import read_config

#: Plugins that their authors are told to write are not here; `test_tutorial` runs those pages.
TOML = [
    block
    for block in blocks("toml")
    if "[project" not in block.text and not block.page.startswith("docs/plugins/")
]
_KEY = re.compile(r"(?:mesh|node|plugins|bootstrap|routing|timing|log|admin)(?:\.[a-z0-9_]+)+")
#: Names of files, which look like keys.
_FILES = {"mesh.toml", "mesh.secret", "node.key"}


@pytest.mark.parametrize("block", TOML, ids=[f"{block.page}" for block in TOML])
def test_a_shown_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "mesh.toml"
    path.write_text(block.text)
    sets: tuple[str, ...] = ()
    if "networks" not in tomli.loads(block.text).get("mesh", {}):
        sets = ('mesh.networks = ["10.42.0.0/16", "fd42::/48"]',)
    config, problems = read_config(str(path), sets=sets, environ={})
    assert [str(problem) for problem in problems] == []
    host = load_plugins(config, strict=True)
    assert [str(problem) for problem in host.option_problems()] == []


def test_every_key_that_a_page_names_exists() -> None:
    known = set(keys())
    parts = {key.rpartition(".")[0] for key in known}
    unknown = [
        (str(path.relative_to(ROOT)), code)
        for path in pages()
        for code in inline(path)
        if _KEY.fullmatch(code)
        and code not in known | parts | _FILES
        and not any(re.fullmatch(key.replace("NAME", "[a-z]+"), code) for key in known)
    ]
    assert unknown == []


def test_every_key_is_described_once() -> None:
    headings = re.findall(
        r"^### (\S+)$", text_of(DOCS / "reference/configuration.md"), re.MULTILINE
    )
    assert Counter(headings) == Counter(list(keys()))
