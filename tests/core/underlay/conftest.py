"""Tests here run on hosts of their own: see `tests.onhost`."""

from __future__ import annotations

from tests.onhost import on_host, pytest_collection_modifyitems

__all__ = ["on_host", "pytest_collection_modifyitems"]
