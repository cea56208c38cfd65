"""Config files, overrides and recipes that cannot be used as they are."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.bad_inputs.harness import BadInput, Site, over, refused
from tests.ranks import ROOT

Make = Callable[[Site], Sequence[str]]
DEMO = str(ROOT / "configs" / "recipe_demo.toml")


def file(name: str, content: str | bytes) -> Make:
    """A config file with this content, alone on the command line."""
    return lambda site: [site.write(name, content)]


def setting(*overrides: str) -> Make:
    """A valid training config with overrides."""
    return lambda site: [site.config(), *overrides]


def table(section: str, /, **values: Any) -> Make:
    """A valid training config with a second file that merges these values over a section."""
    return lambda site: [site.config(), site.write("later.json", json.dumps({section: values}))]


def recipe(*overrides: str) -> Make:
    """The demo's recipe with overrides, in the test's folder."""
    return lambda site: [DEMO, f"run.folder={site.folder / 'recipe'}", *overrides]


def sampling(**values: Any) -> Make:
    """A config of the sample stage."""
    section = {
        "checkpoints": ["step_1"],
        "questions": {"name": "q", "kind": "problems", "num_questions": 4},
        "num_candidates": 2,
        "temperatures": [0.7],
        **values,
    }
    tree = {"run": {"folder": "out"}, "sampling": section}
    return file("sample.json", json.dumps(tree))


def evaluation(**values: Any) -> Make:
    """A config of the evaluate stage."""
    section = {
        "generator": "step_1",
        "benchmarks": [{"name": "b", "kind": "problems", "num_questions": 4}],
        "num_candidates": 2,
        "temperatures": [0.7],
        **values,
    }
    tree = {"run": {"folder": "out"}, "evaluation": section}
    return file("evaluate.json", json.dumps(tree))


def in_a_circle(site: Site) -> Sequence[str]:
    site.write("second.toml", '[generator]\nconfig = "first.toml"\n')
    return [site.write("first.toml", '[generator]\nconfig = "second.toml"\n')]


def past_a_sampled_step(site: Site) -> Sequence[str]:
    """A generator's run that is at step 10 without step 5, which the recipe samples."""
    for step in (8, 10):
        site.write(f"recipe/generator/checkpoints/step_{step}/manifest.json", "{}")
    steps = ["generator.training.max_steps=20", "generator.optimizer.warmup_steps=2"]
    steps += ["generator.checkpoint.every_steps=5", 'sampling.checkpoints=["5","20"]']
    return recipe(*steps)(site)


def case(name: str, verb: str, make: Make, *says: str) -> BadInput:
    return BadInput(name=name, verb=verb, make=make, says=says)


FILES = [
    case("a JSON list", "train", file("c.json", "[1, 2]"), "c.json", "list"),
    case("a JSON text", "prepare", file("c.json", '"run"'), "c.json", "str"),
    case("a JSON key twice", "train", file("c.json", '{"run": {}, "run": {}}'), "'run'", "twice"),
    case("JSON nested 100,000 deep", "sample", file("c.json", "[" * 100_000), "c.json", "deep"),
    case("TOML nested 50 deep", "train", file("c.toml", "a." * 50 + "a = 1"), "c.toml", "51"),
    case("a binary file", "train", file("c.toml", b"\x80\x04\x95\xff"), "c.toml", "UTF-8"),
    case("Latin-1", "evaluate", file("c.toml", b"name = 'M\xfcller'"), "c.toml", "UTF-8"),
    case("12 MB", "train", file("c.toml", b"a = 1\n" * 2_000_000), "c.toml", "12,000,000"),
    case(
        "a key that is a table and a value",
        "train",
        file("c.toml", "[run]\nseed = 1\n[run.seed]\nx = 1\n"),
        "c.toml",
        "line 3",
    ),
    case("a folder", "train", lambda site: [str(site.folder)], "is a folder"),
    case(
        "a file below a file",
        "prepare",
        lambda site: [site.write("c.toml", "") + "/d.toml"],
        "c.toml/d.toml",
        "Not a directory",
    ),
    case("a name of 300 letters", "sample", lambda site: ["n" * 300], "too long"),
    case("nothing in it", "train", file("c.toml", ""), "run: missing", "data: missing"),
    case(
        "a recipe that starts from itself",
        "recipe",
        file("c.toml", '[generator]\nconfig = "c.toml"\n'),
        "generator.config",
        "it is a recipe",
    ),
    case("two recipes in a circle", "recipe", in_a_circle, "second.toml", "it is a recipe"),
    case(
        "a base that is a folder",
        "recipe",
        file("c.toml", '[verifier]\nconfig = "."\n'),
        "is a folder",
    ),
    case("a base that is a number", "recipe", file("c.toml", "verifier.config = 3"), "config = 3"),
]

VALUES = [
    case("true for a rate", "train", setting("optimizer.learning_rate=true"), "= true", "number"),
    case("true for steps", "train", table("training", max_steps=True), "= true", "integer"),
    case("true for a degree", "train", setting("parallel.tensor=true"), "= true", "integer"),
    case("true for a stage", "train", setting("parallel.zero_stage=true"), "= true", "integer"),
    case("an infinite rate", "train", setting("optimizer.learning_rate=inf"), "inf", "finite"),
    case("an infinite eps", "train", setting("optimizer.eps=inf"), "inf", "finite"),
    case("an infinite decay", "train", setting("optimizer.weight_decay=inf"), "inf", "finite"),
    case("NaN in JSON", "train", table("optimizer", eps=float("nan")), "nan", "finite"),
    case(
        "10^30 steps", "train", setting(f"training.max_steps={10**30}"), "max_steps", "1000000000"
    ),
    case("steps in a text", "train", table("training", max_steps="10"), '"10"', "integer"),
    case("half a step", "train", setting("training.max_steps=2.5"), "2.5", "integer"),
    case("a name that is a number", "train", setting("run.name=5"), "run.name = 5", "quotes"),
    case("a name of two lines", "train", table("run", name="a\nb"), "run.name", "line break"),
    case("no run folder", "train", setting("run.folder="), "run.folder", "empty"),
    case("a blank data folder", "prepare", setting("data.folder= "), "data.folder", "empty"),
    case("nobody's home", "train", setting("run.folder=~nobody_here/x"), "~nobody_here"),
    case("a variable", "train", table("run", folder="$SCRATCH/x"), "$SCRATCH", "expand"),
    case("a name of 256 bytes", "train", setting(f"run.folder={'n' * 256}"), "256", "255"),
    case(
        "a run within its data",
        "train",
        lambda site: [site.config(), f"run.folder={site.folder}/data/run"],
        "run.folder",
        "data.folder",
        "as a whole",
    ),
    case("sampling at -0.7", "sample", sampling(temperatures=[-0.7]), "temperatures.0", "-0.7"),
    case("sampling at nan", "sample", sampling(temperatures=[float("nan")]), "nan", "finite"),
    case("evaluating at 0", "evaluate", evaluation(temperatures=[0]), "temperatures.0", "above 0"),
    case("evaluating at inf", "evaluate", evaluation(temperatures=[float("inf")]), "finite"),
    case("a nucleus of nothing", "sample", sampling(top_p=0), "sampling.top_p = 0"),
    case("temperatures that are none", "evaluate", evaluation(temperatures="0.7"), "a list"),
    case(
        "a generator beside one in training",
        "train",
        setting("evaluation.generator=runs/other"),
        "evaluation.generator = 'runs/other'",
        "leave it out",
    ),
]

OVERRIDES = [
    case(
        "two lines in one override",
        "train",
        setting("training.max_steps=3\noptimizer.learning_rate = 5"),
        "more than one line",
    ),
    case("the entry \u00b2", "train", setting("data.sources.\u00b2.seed=1"), "'\u00b2'"),
    case("an entry that is not there", "prepare", setting("data.sources.7.seed=1"), "1 entries"),
    case("an empty part of a key", "train", setting("run..seed=1"), "run..seed", "no key"),
    case("no key", "train", setting("=1"), "not an override"),
    case("across a value", "train", setting("run.seed.x=1"), "run.seed is a value"),
    case("a value for a table", "train", setting("optimizer=3"), "optimizer = 3", "table"),
    case("a value nested deep", "train", setting(f"run.name={'[' * 50_000}"), "too deep"),
    case("an unknown key", "train", setting("training.max_step=3"), "training.max_steps?"),
]

RECIPES = [
    case("another run folder", "recipe", recipe("generator.run.folder=x"), "'x'", "leave it out"),
    case("another name", "recipe", recipe("verifier.run.name=x"), "'x'", "'demo-verifier'"),
    case("another data folder", "recipe", recipe("generator.data.folder=x"), "data_generator"),
    case("other candidates", "recipe", recipe("verifier.data.sources.0.path=x"), "candidates'"),
    case(
        "another tokenizer",
        "recipe",
        recipe("verifier.data.tokenizer.source=a/b"),
        "verifier.data.tokenizer.source = 'a/b'",
    ),
    case(
        "other starting weights",
        "recipe",
        recipe("verifier.model.initial_weights=a/b"),
        "verifier.model.initial_weights = 'a/b'",
    ),
    case("another verifier", "recipe", recipe("evaluation.verifier=a/b"), "step_1600"),
    case("another generator", "recipe", recipe("verifier.evaluation.generator=a/b"), "step_3000"),
    case("another shape", "recipe", recipe("verifier.model.num_layers=2"), "num_layers = 4"),
    case("a step that is \u00b2", "recipe", recipe('sampling.checkpoints=["\u00b2"]'), "'\u00b2'"),
    case("a step never saved", "recipe", recipe('sampling.checkpoints=["2250"]'), "every 500"),
    case(
        "a sampled step that is not kept",
        "recipe",
        recipe("generator.checkpoint.keep_latest=1", "generator.checkpoint.keep_steps=[3000]"),
        "keep_steps",
        "step 2000",
    ),
    case("a sampled step that is gone", "recipe", past_a_sampled_step, "step 5", "at step 10"),
    case(
        "stories that nobody knows",
        "recipe",
        recipe('evaluation.benchmarks.1.difficulty.story_kinds=["zebra"]'),
        "'zebra'",
        "known are bakery",
    ),
    case("a batch that does not divide", "recipe", recipe("num_ranks=3"), "global_batch_sequences"),
]


@over([*FILES, *VALUES, *OVERRIDES, *RECIPES])
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)
