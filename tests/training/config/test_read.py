"""Config files that are none, and overrides that cannot be applied, each in one message."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import small
from training.config import ConfigError, RecipeConfig, TrainConfig, load, resolved
from training.config.read import read

Write = Callable[[str, str | bytes], Path]
CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.json", "[1, 2]", ["a.json", "list", "object"]),
        ("a.json", "null", ["a.json", "NoneType"]),
        ("a.json", "3", ["a.json", "int"]),
        ("a.json", '{"run": 1, "run": 2}', ["a.json", "'run' stands twice"]),
        ("a.json", '{"run": {"seed": 1, "seed": 2}}', ["a.json", "'seed' stands twice"]),
        ("a.json", '{"run": ', ["a.json", "cannot be read"]),
        ("a.json", "", ["a.json", "cannot be read"]),
        ("a.json", '{"a":' * 100_000, ["a.json", "nested too deep"]),
        ("a.json", '{"a":' * 40 + "1" + "}" * 40, ["a.json", "40 deep"]),
        ("a.json", f'{{"run": {"9" * 5000}}}', ["a.json", "cannot be read"]),
        ("a.toml", "[run]\nseed = 1\n[run.seed]\nx = 2", ["a.toml", "cannot be read"]),
        ("a.toml", "run.seed = 1\nrun.seed.x = 2", ["a.toml", "cannot be read"]),
        ("a.toml", "[run]\n[run]\n", ["a.toml", "cannot be read"]),
        ("a.toml", f"a = {'[' * 100_000}", ["a.toml", "nested too deep"]),
        ("a.toml", f"{'a.' * 50}a = 1", ["a.toml", "51 deep"]),
        ("a.toml", b"\x80\x04\x95\x10\x00", ["a.toml", "not UTF-8"]),
        ("a.toml", "[run]\nname = 'M\u00fcller'".encode("latin-1"), ["a.toml", "not UTF-8"]),
        ("a.toml", b"a = 1\n" * 2_000_000, ["a.toml", "12,000,000 bytes"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_file_that_is_no_config_is_named(
    write: Write, name: str, content: str | bytes, parts: list[str]
) -> None:
    path = write(name, content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_is_no_regular_file_is_named(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        read(tmp_path)
    write("near.toml", "")
    with pytest.raises(ConfigError, match=r"is a folder: name one of its files, such as .*near"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ConfigError, match="is not a regular file"):
        read(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    with pytest.raises(ConfigError, match=r"loop.toml cannot be read: Too many levels"):
        read(tmp_path / "loop.toml")
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read(tmp_path / ("n" * 300))
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        read(tmp_path / "near.toml" / "config.toml")
    with pytest.raises(ConfigError, match="cannot be opened"):
        read(Path("a\0b.toml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(write: Write) -> None:
    path = write("a.toml", "")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read(path)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('[generator]\nconfig = "recipe.toml"', "holds 'generator', so it is a recipe"),
        ('[generator]\nconfig = "other.toml"', "holds 'verifier', so it is a recipe"),
        ('[verifier]\nconfig = "absent.toml"', "absent.toml does not exist"),
        ("[verifier]\nconfig = 3", "verifier.config = 3: name a training config's file"),
        ('[verifier]\nconfig = ""', "name a training config's file"),
        ('[verifier]\nconfig = "list.json"', "list.json holds a JSON list"),
        ('[verifier]\nconfig = "."', "is a folder"),
        (
            '[verifier]\nconfig = "~no_such_user/x.toml"',
            "verifier.config: .*no home folder ~no_such",
        ),
        ('[verifier]\nconfig = "$HOME/x.toml"', "verifier.config: .*environment variables"),
    ],
)
def test_a_recipe_starts_from_training_configs_only(
    write: Write, recipe: str, message: str
) -> None:
    write("other.toml", '[verifier]\nconfig = "recipe.toml"')
    write("list.json", "[]")
    with pytest.raises(ConfigError, match=message):
        load(RecipeConfig, [write("recipe.toml", recipe)])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed=3\noptimizer.learning_rate = 5", "more than one line"),
        ("run.seed=3\r\noptimizer.eps = 5", "more than one line"),
        ("data.sources.\u00b2.seed=1", "none at '\u00b2'"),
        ("data.sources.\u0663.seed=1", "none at '\u0663'"),
        ("data.sources.-1.seed=1", "none at '-1'"),
        (f"data.sources.{'9' * 5000}.seed=1", "has 1 entries"),
        ("data.sources.0.seed.x=1", "data.sources.0.seed is a value, not a table"),
        ("run.seed.x=1", "run.seed is a value, not a table"),
        ("run..seed=1", "is no key"),
        (".=1", "is no key"),
        ("=1", "is not an override"),
        (f"{'a.' * 2000}a=1", "is no key"),
        (f"run.name={'[' * 100_000}", "nested too deep"),
        (f"run.name={'[' * 50}{']' * 50}", "nested too deep"),
        (f"run.seed={'[1,' * 9000}", "nested too deep"),
        (f"run.name={'x' * 5000}\n", "control character"),
        (f"run.folder={'x/' * 5000}", "10000 bytes"),
    ],
    ids=range(17),
)
def test_an_override_that_cannot_be_applied_is_named(
    tmp_path: Path, write: Write, override: str, message: str
) -> None:
    path = write("config.json", json.dumps(resolved(small.config(tmp_path))))
    with pytest.raises(ConfigError) as caught:
        load(TrainConfig, [path], [override])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000 and len(str(caught.value).splitlines()) == 1


def test_an_override_may_be_a_list_of_several_lines(tmp_path: Path, write: Write) -> None:
    path = write("config.json", json.dumps(resolved(small.config(tmp_path))))
    config = load(TrainConfig, [path], ['tracking.tags=["a",\n"b"]', "training.max_steps = 7"])
    assert config.tracking.tags == ("a", "b") and config.training.max_steps == 7


def test_many_mistakes_make_a_short_message(tmp_path: Path, write: Write) -> None:
    path = write("config.json", json.dumps(resolved(small.config(tmp_path))))
    many = json.dumps(["x"] * 100_000)
    with pytest.raises(ConfigError) as caught:
        load(TrainConfig, [path], [f"evaluation.temperatures={many}", "run.name=[1]"])
    assert len(str(caught.value)) < 4000 and "and 99981 more" in str(caught.value)


def test_shipped_configs_are_read_with_their_bases() -> None:
    recipe = load(RecipeConfig, [CONFIGS / "recipe_demo.toml"])
    # From the base, from the recipe's table over it, and from the recipe itself.
    assert recipe.generator.model.hidden_size == 128
    assert recipe.generator.training.micro_batch_sequences == 2
    assert recipe.generator.run.folder == Path("runs/demo/generator")
