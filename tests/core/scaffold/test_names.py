from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.errors import PluginError
from tunmesh.scaffold import names_of
from tunmesh.shipped import DISTRIBUTIONS

WORD = st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True)


@given(words=st.lists(WORD, min_size=1, max_size=3), joint=st.sampled_from("-_"))
def test_names_suit_everybody_who_reads_them(words: list[str], joint: str) -> None:
    names = names_of(joint.join(["zz", *words]))
    assert names.name.isidentifier()
    assert names.package == f"tunmesh_{names.name}"
    assert names.package.isidentifier()
    assert re.sub(r"[-_.]+", "-", names.distribution).lower() == names.distribution  # PEP 503
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*", names.scheme)  # RFC 3986, section 3.1


@pytest.mark.parametrize(
    "text",
    ["", "Hello", "7up", "a b", "a/b", "../a", "ä", "-a", "a-", "a--b", "a.b", "a\n", "x" * 25],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(PluginError, match="not a name for a plugin") as caught:
        names_of(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [*DISTRIBUTIONS, *(name.removeprefix("tunmesh-") for name in DISTRIBUTIONS.values()), "core"],
)
def test_what_tunmesh_itself_is_called(text: str) -> None:
    with pytest.raises(PluginError, match="choose another"):
        names_of(text)


def test_what_is_installed() -> None:
    with pytest.raises(PluginError, match="plugin hello_you: is installed already"):
        names_of("hello-you", plugins={"hello_you"})
    with pytest.raises(PluginError, match="a distribution tunmesh-hello exists already"):
        names_of("hello", distributions={"tunmesh-hello"})
