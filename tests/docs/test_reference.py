"""What the reference lists by hand is what the code has, and the other way round."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from tests.docs.pages import DOCS, ROOT, text_of
from tunmesh.admin.metrics import METRICS
from tunmesh.counters import DROP_REASONS
from tunmesh.membership import messages
from tunmesh.mesh import explaining
from tunmesh.session import payload, units, wire

_SOURCES = (ROOT / "core/src", *ROOT.glob("plugins/*/src"))
_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error"}
_FIELD = re.compile(r" ?\b(\w+)=%\S*")


def test_drop_reasons() -> None:
    page = (DOCS / "reference/drops.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(DROP_REASONS)


def logged(path: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Event, level and fields of each line that a module may log, from `info` on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Attribute)
            or not node.args
        ):
            continue
        first, target = node.args[0], ast.unparse(node.func.value)
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            continue
        template, name = first.value, node.func.attr
        if target == "log" and name in _LEVELS and not template.startswith("%s"):
            event = _FIELD.sub("", template).removesuffix("%s").strip()
            yield event, _LEVELS[name], tuple(_FIELD.findall(template))
        elif name == "event" and "observer" in target:
            yield template, "warning", tuple(str(keyword.arg) for keyword in node.keywords)


def test_log_events() -> None:
    page = (DOCS / "reference/logs.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    listed = {
        (event, level, tuple(re.findall(r"`(\w+)`", fields))) for event, level, fields in rows
    }
    found = {line for source in _SOURCES for path in source.rglob("*.py") for line in logged(path)}
    assert found - listed == set(), "not in docs/reference/logs.md"
    assert listed - found == set(), "in docs/reference/logs.md only"


def test_checks_of_the_doctor() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    found = {
        node.args[0].value
        for source in _SOURCES
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "Finding"
        and isinstance(node.args[0], ast.Constant)
    }
    assert listed == found


def test_statistics_of_plugins() -> None:
    page = (DOCS / "reference/http.md").read_text()
    rows = re.findall(r"^\| `(?:udp|https|igmp)` \| ([^|]+) \|", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    counted = re.compile(r"""_count(?:er)?s\[f?"(\w+)(?:\{.+?\})?"\]""")
    found = {
        name if not name.endswith("_") else f"{name}ERROR"
        for source in ROOT.glob("plugins/*/src")
        for path in source.rglob("*.py")
        for name in counted.findall(path.read_text())
    }
    assert found
    assert found <= listed


def test_metrics_are_those_of_a_node() -> None:
    shown = re.findall(r"^\| `(tunmesh_\w+)` \|", text_of(DOCS / "reference/http.md"), re.MULTILINE)
    assert len(shown) == len(set(shown)) == len(METRICS) + 2


def test_sizes_of_messages() -> None:
    page = (DOCS / "protocol.md").read_text()
    named = {
        "INIT": (wire.INIT, wire.INIT_SIZE),
        "RESP": (wire.RESP, wire.RESP_SIZE),
        "COOKIE": (wire.COOKIE, wire.COOKIE_SIZE),
        "KEYQ": (wire.KEYQ, wire.KEYQ_SIZE),
        "KEYR": (wire.KEYR, wire.KEYR_SIZE),
        "in INIT": (None, payload.INIT_PAYLOAD_SIZE),
        "in RESP": (None, payload.RESP_PAYLOAD_SIZE),
    }
    for name, (kind, size) in named.items():
        layout = re.search(rf"^{name} +([a-z].+\n(?: +\|.+\n)*)", page, re.MULTILINE)
        assert layout, name
        fields = [field.strip() for field in layout[1].split("|")]
        sizes = [re.fullmatch(r".+? (\d+)(?: = (\d+))?", field) for field in fields]
        assert all(sizes), fields
        assert sum(int(match[1]) for match in sizes if match) == size, name
        if kind is not None:
            assert sizes[0]
            assert int(sizes[0][2]) == kind
            assert f"| {kind} | {name} | {size} |" in page


def test_items() -> None:
    page = (DOCS / "protocol.md").read_text()
    listed = {
        name: int(kind)
        for kind, name in re.findall(r"^\| (\d) \| ([A-Z_]+) \| .+\|$", page, re.MULTILINE)
    }
    names = ("PAD", "FRAME", "CONTROL", "PROBE", "PROBE_REPLY", "CONFIRM", "RELAY", "RELAYED")
    assert {name: getattr(units, name) for name in names}.items() <= listed.items()


def test_kinds_of_control_messages() -> None:
    page = (DOCS / "protocol.md").read_text()
    listed = re.findall(r'^\| `"([a-z])"` \|', page, re.MULTILINE)
    kinds = (*get_args(messages.Message), explaining.Question, explaining.Answer)
    assert sorted(listed) == sorted(kind.__struct_config__.tag for kind in kinds)


def test_links_of_the_files_at_the_top() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"):
        page = ROOT / name
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{name}: {target}"
