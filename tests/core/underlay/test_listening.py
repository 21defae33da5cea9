from __future__ import annotations

import pytest

from tunmesh.errors import ConfigError
from tunmesh.underlay import check_listen


def test_what_can_be() -> None:
    check_listen(["0.0.0.0:4567", "[::]:4567", "[fe80::1%eth0]:65535", "[::1]:0", "[::1]:0"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["300.1.1.1:1"], 'listen: "300.1.1.1:1" has no IP address'),
        (["[::]:1", "[x]:1"], 'listen: "[x]:1" has no IP address'),
        (["0.0.0.0:65536"], 'listen: "0.0.0.0:65536" has a port beyond 65535'),
        (
            ["x:1", "0.0.0.0:70000"],
            'listen: "x:1" has no IP address; "0.0.0.0:70000" has a port beyond 65535',
        ),
        (["0.0.0.0:1"] * 2, 'listen: "0.0.0.0:1" is named more than once'),
    ],
)
def test_what_cannot(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_listen(texts)
    assert str(caught.value) == message
