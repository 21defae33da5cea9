import logging

import pytest

from tunmesh.loader import PluginHost
from tunmesh.logs import LIMIT_WARNING, JsonFormatter, RateLimited
from tunmesh.node.announcer import Announcer


def test_events_have_fields_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    announcer = Announcer(PluginHost())
    announcer.event("address conflict", address="10.42.0.1", holder="ab\n", claimant="cd")
    (record,) = caplog.records
    shown = JsonFormatter().format(record)
    assert '"event":"address conflict"' in shown
    assert '"address":"10.42.0.1","holder":"ab\\\\x0a","claimant":"cd"' in shown


def test_events_are_limited_apart(caplog: pytest.LogCaptureFixture) -> None:
    announcer = Announcer(PluginHost())
    limit = RateLimited()
    burst, _ = LIMIT_WARNING
    for name in (*["bad url"] * (burst + 1), "address conflict"):
        announcer.event(name, field=1)
    passed = [limit.filter(record) for record in caplog.records]
    assert passed == [*[True] * burst, False, True]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
