"""Every field of a config says what it means: docs/configuration.md is made of these texts."""

import ast
import inspect

import pytest

import training.config
from training.config.values import Section


def _all_sections() -> list[type[Section]]:
    found: list[type[Section]] = []
    waiting = [Section]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        found += subclasses
        waiting += subclasses
    return [one for one in found if one.__module__.startswith(training.config.__name__)]


@pytest.mark.parametrize("section", _all_sections(), ids=lambda one: one.__name__)
def test_every_field_has_a_docstring_below_it(section: type[Section]) -> None:
    (tree,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(tree, ast.ClassDef)
    for field, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            text = following.value if isinstance(following, ast.Expr) else None
            has_docstring = isinstance(text, ast.Constant) and isinstance(text.value, str)
            assert has_docstring, f"{section.__name__}, line: {ast.unparse(field)}"


def test_the_sections_of_all_verbs_are_found() -> None:
    names = {section.__name__ for section in _all_sections()}

    assert {"TrainConfig", "RecipeConfig", "DataConfig", "DifficultyConfig"} <= names
