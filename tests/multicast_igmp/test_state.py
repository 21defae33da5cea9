"""The state of an interface, against a host that is modelled by what its programs asked for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.multicast_igmp.packets import record
from tunmesh_multicast_igmp.messages import Address, Record, RecordType
from tunmesh_multicast_igmp.state import Filter, GroupTable

IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = RecordType
GMI = 250.5
GROUP = "239.1.2.3"


def a_filter(mode: str, sources: str) -> Filter | None:
    """``include``, ``exclude`` or ``none``, with sources by letters."""
    if mode == "none":
        return None
    return Filter(mode == "exclude", frozenset(ip_address(f"10.0.0.{ord(s)}") for s in sources))


def the_record(kind: RecordType, sources: str) -> Record:
    return record(kind, GROUP, *(f"10.0.0.{ord(source)}" for source in sources))


@pytest.mark.parametrize(
    ("before", "kind", "sources", "after"),
    [
        (("none", ""), IS_IN, "ab", ("include", "ab")),
        (("none", ""), ALLOW, "ab", ("include", "ab")),
        (("none", ""), TO_IN, "", ("none", "")),
        (("none", ""), BLOCK, "a", ("none", "")),
        (("none", ""), TO_EX, "", ("exclude", "")),
        (("none", ""), IS_EX, "a", ("exclude", "a")),
        (("include", "ab"), IS_IN, "bc", ("include", "abc")),
        (("include", "ab"), TO_IN, "bc", ("include", "bc")),
        (("include", "ab"), TO_IN, "", ("none", "")),
        (("include", "ab"), ALLOW, "bc", ("include", "abc")),
        (("include", "ab"), BLOCK, "bc", ("include", "a")),
        (("include", "ab"), BLOCK, "ab", ("none", "")),
        (("include", "ab"), IS_EX, "bc", ("exclude", "bc")),
        (("include", "ab"), TO_EX, "", ("exclude", "")),
        (("exclude", "ab"), IS_IN, "bc", ("include", "bc")),
        (("exclude", "ab"), TO_IN, "bc", ("include", "bc")),
        (("exclude", "ab"), TO_IN, "", ("none", "")),
        (("exclude", "ab"), ALLOW, "bc", ("exclude", "a")),
        (("exclude", "ab"), BLOCK, "bc", ("exclude", "abc")),
        (("exclude", "ab"), IS_EX, "bc", ("exclude", "bc")),
        (("exclude", "ab"), TO_EX, "bc", ("exclude", "bc")),
    ],
)
def test_transitions(
    before: tuple[str, str], kind: RecordType, sources: str, after: tuple[str, str]
) -> None:
    table = GroupTable(GMI)
    if before[0] != "none":
        table.receive(the_record(IS_IN if before[0] == "include" else IS_EX, before[1]), 0.0)
    filters = table.filters()
    assert filters.get(ip_address(GROUP)) == a_filter(*before)
    table.receive(the_record(kind, sources), 1.0)
    assert table.filters().get(ip_address(GROUP)) == a_filter(*after)
    assert (table.filters() is filters) == (before == after)
    assert len(table) == (after[0] != "none")


def changes(before: Filter | None, after: Filter | None) -> list[Record]:
    """What a host reports when its filter changes (RFC 3376, section 5.1)."""
    group = ip_address(GROUP)
    old, new = before or Filter(False, frozenset()), after or Filter(False, frozenset())
    if old.exclude != new.exclude:
        return [Record(TO_EX if new.exclude else TO_IN, group, tuple(new.sources))]
    more, fewer = new.sources - old.sources, old.sources - new.sources
    allow, block = (fewer, more) if new.exclude else (more, fewer)
    found = [(ALLOW, allow), (BLOCK, block)]
    return [Record(kind, group, tuple(sources)) for kind, sources in found if sources]


def state(wanted: Filter) -> list[Record]:
    """What a host answers to a query, a long list in two records."""
    group, sources = ip_address(GROUP), tuple(wanted.sources)
    if wanted.exclude:
        return [Record(IS_EX, group, sources)]
    return [Record(IS_IN, group, part) for part in (sources[:1], sources[1:]) if part]


a_source = st.sampled_from([ip_address(f"10.0.0.{n}") for n in range(1, 6)])
wishes = st.none() | st.builds(Filter, st.booleans(), st.frozensets(a_source, max_size=4)).filter(
    lambda wanted: bool(wanted.exclude or wanted.sources)
)


@given(st.lists(st.tuples(wishes, st.booleans(), st.floats(0, 120)), max_size=20))
def test_the_table_holds_what_the_host_wants(
    steps: list[tuple[Filter | None, bool, float]],
) -> None:
    table, now = GroupTable(GMI), 0.0
    wanted: Filter | None = None
    for wish, asked, pause in steps:
        for each in changes(wanted, wish) * 2:  # sent twice, as hosts do
            table.receive(each, now)
        wanted = wish
        # The host is asked at least every 120 s, or its memberships would expire.
        if asked or pause:
            now += pause
            for each in state(wanted) if wanted else ():
                table.receive(each, now)
        table.handle_timer(now)
        assert table.filters() == ({ip_address(GROUP): wanted} if wanted else {})


@given(
    st.lists(
        st.tuples(
            st.builds(
                Record,
                st.sampled_from(RecordType),
                st.sampled_from([ip_address(f"239.0.0.{n}") for n in range(8)]),
                st.lists(a_source, max_size=5).map(tuple),
            ),
            st.floats(0, 100),
        ),
        max_size=40,
    )
)
@settings(max_examples=50)
def test_whatever_is_reported_the_table_is_bounded_and_empties(
    steps: list[tuple[Record, float]],
) -> None:
    table, now = GroupTable(GMI, most_groups=4, most_sources=3), 0.0
    for each, pause in steps:
        table.receive(each, now)
        assert len(table) == len(table.filters()) <= 4
        assert all(len(wanted.sources) <= 3 for wanted in table.filters().values())
        assert all(wanted.exclude or wanted.sources for wanted in table.filters().values())
        now += pause
        if table.next_deadline() <= now:
            table.handle_timer(now)
            assert table.next_deadline() > now
    table.handle_timer(now + GMI)
    assert not table.filters()
    assert table.next_deadline() == float("inf")


def test_groups_beyond_the_most_are_refused_and_counted() -> None:
    table = GroupTable(GMI)
    for number in range(100_000):
        group: Address = ip_address(0xEF000000 + number)
        table.receive(Record(TO_EX, group), 0.0)
    assert len(table) == 1024
    assert table.refused == 100_000 - 1024
    table.receive(Record(TO_IN, ip_address(0xEF000000)), 1.0)
    table.receive(Record(TO_EX, ip_address(0xEFFFFFFF)), 1.0)
    assert ip_address(0xEFFFFFFF) in table.filters()


def test_sources_expire_one_by_one() -> None:
    table = GroupTable(GMI)
    table.receive(the_record(ALLOW, "a"), 0.0)
    table.receive(the_record(ALLOW, "b"), 10.0)
    table.handle_timer(GMI - 0.1)
    assert table.filters()[ip_address(GROUP)] == a_filter("include", "ab")
    table.handle_timer(GMI)
    assert table.filters()[ip_address(GROUP)] == a_filter("include", "b")
    table.handle_timer(GMI + 10)
    assert not table.filters()


def test_allowing_a_source_does_not_prolong_an_exclusion() -> None:
    table = GroupTable(GMI)
    table.receive(the_record(IS_EX, "a"), 0.0)
    table.receive(the_record(ALLOW, "a"), 100.0)
    table.handle_timer(GMI)
    assert not table.filters()


def test_only_what_takes_something_away_is_doubtful() -> None:
    table = GroupTable(GMI)
    assert not table.receive(the_record(TO_EX, ""), 0.0)
    assert not table.receive(the_record(ALLOW, "a"), 0.0)
    assert table.receive(the_record(BLOCK, "a"), 0.0)
    assert table.receive(the_record(TO_IN, ""), 0.0)
    assert not table.receive(the_record(TO_IN, ""), 0.0)
