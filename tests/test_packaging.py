"""pyproject.toml says what works, constraints.txt which versions are tested."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tests.ranks import ROOT

PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.lstrip().startswith("#")
]


def _declared() -> Iterator[Requirement]:
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        yield from map(Requirement, lines)


def _pins(minor: int) -> dict[NormalizedName, Requirement]:
    """The pins of a Python version on Linux, by name; exactly one each."""
    environment = {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.5",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    chosen = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    by_name = {canonicalize_name(pin.name): pin for pin in chosen}
    assert len(by_name) == len(chosen)
    return by_name


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_every_dependency_has_one_exact_pin_that_it_allows(minor: int) -> None:
    pins = _pins(minor)
    for pin in pins.values():
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and "*" not in specifier.version
    for declared in _declared():
        (specifier,) = pins[canonicalize_name(declared.name)].specifier
        assert declared.specifier.contains(specifier.version), f"`make constraints`: {declared}"


def test_the_pins_are_what_is_installed() -> None:
    pins, found = _pins(sys.version_info.minor), set[NormalizedName]()
    # Not those that setuptools carries within itself and adds to sys.path when it is imported.
    for distribution in distributions(path=[sysconfig.get_path("purelib")]):
        name = canonicalize_name(distribution.metadata["Name"] or "")
        if name in pins:
            found.add(name)
            version = distribution.version.split("+")[0]
            assert pins[name].specifier.contains(version), f"{pins[name]}, installed: {version}"
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= found


def test_no_file_of_packaging_names_a_registry() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run"):
        assert "://" not in (ROOT / name).read_text()


@pytest.mark.slow
def test_an_installed_copy_works_from_any_folder(tmp_path: Path) -> None:
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "empty"))
    elsewhere.mkdir()
    for name in ("launch", "training", "parallel", "checkpoints", "configs", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    subprocess.run(
        [sys.executable, *install, "--target", str(installed), str(source)], check=True, timeout=300
    )
    assert not (installed / "tests").exists()
    done = subprocess.run(
        [sys.executable, str(installed / "bin" / "tinygsm"), "train", "--dry-run"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{installed}/configs/generator_demo.toml" in done.stdout
    assert not list(elsewhere.iterdir())
