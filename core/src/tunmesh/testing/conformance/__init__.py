"""The tests that every plugin of a role has to pass: subclass, tell how to build, run pytest.

::

    from tunmesh.testing.conformance import TransportConformance


    class TestHello(TransportConformance):
        plugin = "hello"

        def settings(self, port, folder):
            return {"listen": f"127.0.0.1:{port}"}

Needs pytest and the pytest plugin of anyio (``pip install tunmesh[testing]``). The tests run on
every event loop that is installed: asyncio, and trio if it is there. A test of the kit that a
plugin cannot pass may be overridden only with ``@pytest.mark.xfail(reason="…")``: anything else is
refused when the class is made.
"""

import pkgutil

import pytest

# Before the modules are imported: pytest then shows the values in a failed assertion.
pytest.register_assert_rewrite(
    *(f"{__name__}.{found.name}" for found in pkgutil.iter_modules(__path__))
)

from tunmesh.testing.conformance.address import AddressConformance  # noqa: E402  # see above
from tunmesh.testing.conformance.base import Conformance  # noqa: E402
from tunmesh.testing.conformance.policy import PolicyConformance  # noqa: E402
from tunmesh.testing.conformance.registry import CHECKS, covers  # noqa: E402
from tunmesh.testing.conformance.transport import TransportConformance  # noqa: E402
from tunmesh.testing.conformance.tun import TunConformance  # noqa: E402

__all__ = [
    "CHECKS",
    "AddressConformance",
    "Conformance",
    "PolicyConformance",
    "TransportConformance",
    "TunConformance",
    "covers",
]
