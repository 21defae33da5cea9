"""The pages of the admin listener: ``/health``, ``/ready``, ``/metrics``, ``/api/v1/status``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from tunmesh.admin.http import Answer, HttpServer, Page
from tunmesh.admin.metrics import Metrics
from tunmesh.admin.status import Status

if TYPE_CHECKING:
    from tunmesh.config.types import AdminOptions
    from tunmesh.node.health import Check


def web_server(
    options: AdminOptions,
    status: Callable[[], dict[str, Any]],
    health: Callable[[], Mapping[str, Check]],
    ready: Callable[[], Check],
    started: float,
) -> HttpServer:
    """The server.

    Args:
        options: Of the configuration.
        status: Makes the status document.
        health: Makes the checks of ``/health``.
        ready: The check of ``/ready``.
        started: Seconds since 1970 at which the node started.
    """
    metrics = Metrics(lambda: msgspec.convert(status(), Status), options.labels, started)
    pages: dict[str, Page] = {
        "/health": lambda _: _checks(health()),
        "/ready": lambda _: _checks({"ready": ready()}),
        "/metrics": functools.partial(_metrics, metrics),
        "/api/v1/status": lambda _: Answer(200, msgspec.json.encode(status())),
    }
    return HttpServer(pages, options.hosts)


def _checks(checks: Mapping[str, Check]) -> Answer:
    document = {name: asdict(check) for name, check in checks.items()}
    return Answer(
        200 if all(check.ok for check in checks.values()) else 503, msgspec.json.encode(document)
    )


def _metrics(metrics: Metrics, accept: str) -> Answer:
    body, kind = metrics.render(accept)
    return Answer(200, body, kind)
