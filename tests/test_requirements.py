"""requirements.txt: one exact pin per library, and the one that is tested with."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LINES = [
    Requirement(line)
    for line in (Path(__file__).parent.parent / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_each_python_gets_one_exact_pin_per_library(minor: int) -> None:
    python = {"python_version": f"3.{minor}"}
    chosen = [line for line in LINES if line.marker is None or line.marker.evaluate(python)]
    assert {line.name for line in chosen} == {line.name for line in LINES}
    assert len(chosen) == len({line.name for line in chosen})
    for line in chosen:
        assert [each.operator for each in line.specifier] == ["=="] and "*" not in str(line)


def test_the_pins_are_what_is_installed() -> None:
    python = {"python_version": f"3.{sys.version_info.minor}"}
    for line in LINES:
        if line.marker is None or line.marker.evaluate(python):
            found = version(line.name).split("+")[0]
            assert line.specifier.contains(found), f"{line} is pinned, {found} is installed"
