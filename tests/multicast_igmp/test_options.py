"""The table of the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tunmesh.errors import ConfigError
from tunmesh.plugin import Duration
from tunmesh_multicast_igmp.options import Options


def test_the_defaults_are_those_of_the_rfc() -> None:
    options = Options()
    assert float(options.query_interval) == 125.0
    assert options.robustness == 2


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"mode": {"10.0.0.0/8": "off"}}, "mode"),
        ({"mode": {"239.0.0.1/8": "off"}}, "mode"),
        ({"scope": {"nonsense": "local"}}, "scope"),
        ({"query_interval": Duration(0)}, "query_interval"),
        ({"query_response_interval": Duration("125s")}, "query_response_interval"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Options(**options)
    assert raised.value.key == key
