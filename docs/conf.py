"""How Sphinx builds the documentation: `make docs`. Pages are Markdown, read by MyST."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.generated import expand
from tunmesh import __version__

project = "tunmesh"
copyright = "the authors of tunmesh"  # noqa: A001  # Sphinx's name for it
release = version = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False  # what is quoted is often a value to copy

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = f"tunmesh {release}"
html_copy_source = False
html_show_sourcelink = False


def _generate(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = expand(source[0])


def setup(app: Sphinx) -> None:
    """Replace the placeholders of generated parts when a page is read."""
    app.connect("source-read", _generate)
