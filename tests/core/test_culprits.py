from __future__ import annotations

import sys
from types import FrameType, ModuleType

import pytest

from tunmesh.culprits import Culprit, Culprits

SOURCE = """
import sys

def fail():
    raise ValueError("a defect")

def call(function):
    return function()

def frame():
    return sys._getframe()
"""


def module(name: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(SOURCE, f"{name}.py", "exec"), made.__dict__)
    return made


ONE, TWO = module("plug_one.plugin"), module("plug_two.deep.part")
CULPRITS = Culprits({"plug_one.plugin": "one", "plug_two": "two", "plug_two.other": "other"})


def culprit(function: object, *args: object) -> Culprit:
    assert callable(function)
    with pytest.raises(ValueError, match="a defect") as caught:
        function(*args)
    return CULPRITS.of_error(caught.value)


def test_the_plugin_that_raised_is_named_with_its_line() -> None:
    assert culprit(ONE.fail) == Culprit("one", "plug_one.plugin.py:5")


def test_modules_of_a_package_belong_to_its_plugin() -> None:
    assert culprit(TWO.fail) == Culprit("two", "plug_two.deep.part.py:5")


def test_of_several_the_last_is_named() -> None:
    assert culprit(ONE.call, TWO.fail).plugin == "two"
    assert culprit(TWO.call, ONE.fail).plugin == "one"


def test_what_a_plugin_calls_is_its_doing() -> None:
    assert culprit(ONE.call, module("some_library").fail) == Culprit("one", "plug_one.plugin.py:8")


def test_without_a_plugin_it_is_the_core() -> None:
    found = culprit(module("tunmesh_mesh").fail)
    assert found.plugin == "core"
    assert found.at == "tunmesh_mesh.py:5"
    assert Culprits().of_error(ValueError()) == Culprit("core", "")


def test_a_frame_is_that_of_who_runs_there() -> None:
    frame: FrameType = ONE.call(TWO.frame)
    assert CULPRITS.of_frame(frame).plugin == "two"
    assert Culprits({"plug_one.plugin": "one"}).of_frame(sys._getframe()).plugin == "core"
