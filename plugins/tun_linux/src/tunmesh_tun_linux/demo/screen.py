"""What a person sees: a lively screen on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_NAME_WIDTH = 12
#: How some cells look on a terminal.
_LOOKS = {"up": "● up", "starting": "○ starting", "connecting": "○ connecting"}
_STYLES = {"up": "green", "starting": "yellow", "connecting": "yellow", "-": "dim"}


@dataclass(frozen=True)
class Table:
    """Rows of text under headers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


class Step:
    """One thing that the demo does, while it does it."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._start = time.monotonic()
        self.name = name
        self.detail = ""
        self.table: Table | None = None

    @property
    def seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self._start

    def update(self, detail: str, table: Table | None = None) -> None:
        """Show how far the step is; call it often, it also moves what moves."""
        self.detail = detail
        self.table = table
        self._screen.progress(self)


class Screen(ABC):
    """Where the demo shows what happens."""

    @abstractmethod
    def headline(self, text: str) -> None:
        """Begin."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show some lines as they are."""

    @abstractmethod
    def failure(self, text: str) -> None:
        """Show what went wrong."""

    @abstractmethod
    def progress(self, step: Step) -> None:
        """Show a step that is not finished."""

    @abstractmethod
    def _ended(self, step: Step, *, good: bool) -> None:
        """Show a step for the last time."""

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Do one thing; what the step shows last stays."""
        step = Step(self, name)
        self.progress(step)
        try:
            yield step
        except BaseException:
            self._ended(step, good=False)
            raise
        self._ended(step, good=True)


class PlainScreen(Screen):
    """Lines without colours or movement, for files and pipes."""

    def headline(self, text: str) -> None:
        self._print(text)

    def note(self, text: str) -> None:
        self._print(text)

    def failure(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"tunmesh demo: {text}\n")

    def progress(self, step: Step) -> None:
        """Nothing: only what is finished is worth a line."""

    def _ended(self, step: Step, *, good: bool) -> None:
        mark = "ok  " if good else "FAIL"
        self._print(f"{mark} {step.name:<{_NAME_WIDTH}} {step.detail}  ({step.seconds:.2f} s)")
        if step.table is not None:
            for line in layout(step.table):
                self._print(f"       {line}")

    def _print(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def layout(table: Table) -> list[str]:
    """A table as lines of aligned columns."""
    rows = [table.headers, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headers))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


class RichScreen(Screen):
    """Colours and movement, for terminals."""

    def __init__(self) -> None:
        # Here, since most runs of tunmesh never show a demo.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
        from rich.spinner import Spinner  # noqa: PLC0415

        self._console = Console(highlight=False)
        self._errors = Console(highlight=False, stderr=True)
        self._spinner = Spinner("dots", style="cyan")
        # Refreshed by hand: a thread would make it unsafe to fork.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def headline(self, text: str) -> None:
        self._console.print(f"\n {text}\n", style="bold", markup=False)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def failure(self, text: str) -> None:
        self._errors.print(f"\n ✗ {text}\n", style="red", markup=False)

    def progress(self, step: Step) -> None:
        if not self._live.is_started:
            self._live.start()
        frame = self._spinner.render(self._console.get_time())
        self._live.update(_rendered(step, str(frame), "cyan"), refresh=True)

    def _ended(self, step: Step, *, good: bool) -> None:
        self._live.update("", refresh=True)
        self._live.stop()
        mark = ("✓", "bold green") if good else ("✗", "bold red")
        self._console.print(_rendered(step, *mark))


def _rendered(step: Step, mark: str, style: str) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table as Grid  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    line = Text.assemble(
        " ",
        (mark, style),
        (f" {step.name:<{_NAME_WIDTH}} ", "bold"),
        step.detail,
        (f"  {step.seconds:.1f} s", "dim"),
    )
    if step.table is None:
        return line
    grid = Grid(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for header in step.table.headers:
        grid.add_column(header)
    for row in step.table.rows:
        grid.add_row(*(Text(_LOOKS.get(cell, cell), _STYLES.get(cell, "")) for cell in row))
    return Group(line, Padding(grid, (1, 0, 1, 4)))


def make_screen() -> Screen:
    """The screen for wherever standard output goes."""
    return RichScreen() if sys.stdout.isatty() else PlainScreen()
