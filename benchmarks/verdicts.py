"""What a packet costs if a policy decides about flows: `python -m benchmarks.verdicts`.

As `benchmarks.routes`: from the device to the network, sealed, without sockets, in turns.
"""

from __future__ import annotations

import statistics

from benchmarks.routes import FEW, ROUNDS, Spread, cost, frames, sender
from tunmesh.interfaces import Direction, Flow, SupportsVerdict


class Gate(Spread, SupportsVerdict):
    """Lets everything pass."""

    def verdict(self, flow: Flow, direction: Direction) -> tuple[bool, float]:  # noqa: ARG002
        """Yes, for an hour."""
        return True, 3600.0


def main() -> None:
    """Compare, and print one line."""
    batch = frames(FEW)
    nodes = {kind: sender(FEW, kind) for kind in (Spread, Gate)}
    costs: dict[type[Spread], list[float]] = {kind: [] for kind in nodes}
    for _ in range(ROUNDS):
        for kind, node in nodes.items():
            costs[kind].append(cost(node, batch))
    without, judged = (statistics.median(costs[kind]) for kind in (Spread, Gate))
    print(
        f"{without:.2f} us a packet without verdicts, {judged:.2f} us with: "
        f"{judged - without:.2f} us more"
    )


if __name__ == "__main__":
    main()
