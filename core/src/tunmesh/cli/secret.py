"""``tunmesh secret``: mesh secrets."""

from __future__ import annotations

import argparse

from tunmesh.identity.secrets import generate_secret


def generate_command(_args: argparse.Namespace) -> int:
    """Print a new mesh secret."""
    print(generate_secret())
    return 0
