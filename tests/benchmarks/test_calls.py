"""That the figures for authors can be taken; what they are, nobody promises."""

from __future__ import annotations

from benchmarks.calls import figures
from benchmarks.startup import verdict


def test_every_kind_of_call_has_a_figure() -> None:
    found = figures(20)
    assert {"bound method", "pluggy hook, 0 plugins", "notification, 0 plugins"} < {*found}
    assert {"anyio checkpoint, asyncio", "anyio checkpoint, trio"} < {*found}


def test_a_median_is_judged() -> None:
    assert verdict("it", [0.1, 9.0, 0.2], 0.25) == (
        "it: 0.200 s (0.100 to 9.000 in 3 rounds), limit 0.25 s: kept",
        True,
    )
    assert verdict("it", [0.3], 0.25)[1] is False
