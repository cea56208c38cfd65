"""The README's plot: two SVG files that need no page around them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.training.report.run_folder import write_run
from training.report.figure import main, write_figures


def test_both_themes_are_drawn_with_colours_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", questions=40)

    paths = write_figures(run, tmp_path / "images" / "accuracy")

    assert [path.name for path in paths] == ["accuracy_light.svg", "accuracy_dark.svg"]
    light, dark = (path.read_text("utf-8") for path in paths)
    for text in (light, dark):
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
        assert "verify@k" in text
    colour = re.compile(r"#[0-9a-f]{6}")
    assert set(colour.findall(light)) != set(colour.findall(dark))
    assert colour.sub("", light) == colour.sub("", dark)


def test_the_benchmark_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", questions=40)

    assert main([str(run), str(tmp_path / "longer"), "--benchmark", "demo_longer"]) == 0

    assert "demo_longer" in (tmp_path / "longer_dark.svg").read_text("utf-8")
    assert "longer_light.svg" in capsys.readouterr().out
    with pytest.raises(ValueError, match="demo_test, demo_longer"):
        write_figures(run, tmp_path / "other", benchmark="gsm8k")
