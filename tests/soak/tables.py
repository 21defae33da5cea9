"""How much there is of everything, and whether it stays as much."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.keymaterial import attributes

_CONTAINERS = (dict, set, frozenset, list, tuple, deque, bytearray)


def table_sizes(roots: Iterable[object]) -> Counter[str]:
    """The sizes of all containers that the project's objects hold, by class and attribute.

    Args:
        roots: Where to begin; what their objects refer to is looked at too, once.
    """
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, _CONTAINERS):
            pending += _members(thing)
        elif type(thing).__module__.startswith("tunmesh"):
            sizes[f"objects {type(thing).__qualname__}"] += 1
            for name, value in attributes(thing):
                if isinstance(value, _CONTAINERS):
                    sizes[f"{type(thing).__qualname__}.{name}"] += len(value)
                pending.append(value)
    return sizes


def _members(container: object) -> Iterator[object]:
    if isinstance(container, bytearray):
        return
    if isinstance(container, dict):
        yield from container.keys()
        yield from container.values()
    elif isinstance(container, Iterable):
        yield from container


def objects() -> int:
    """How many objects the interpreter keeps track of."""
    gc.collect()
    return len(gc.get_objects())


def rss_kib(pid: int | str = "self") -> int:
    """The memory of a process that is in use, in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int | str = "self") -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def growth(
    samples: Sequence[Mapping[str, int]], factor: float = 1.3, slack: float = 50.0
) -> dict[str, tuple[float, float]]:
    """What grew: its median in the first third of the samples, and in the last.

    Args:
        samples: In the order of time.
        factor: By so much the median may grow.
        slack: And by so much more.
    """
    third = max(1, len(samples) // 3)
    grown = {}
    for name in {name for sample in samples for name in sample}:
        first = median(sample.get(name, 0) for sample in samples[:third])
        last = median(sample.get(name, 0) for sample in samples[-third:])
        if last > first * factor + slack:
            grown[name] = (first, last)
    return grown
