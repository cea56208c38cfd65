"""Data that was prepared otherwise, models of other tokenizers, and folders that are not ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_inputs.harness import BadInput, Site, over, refused
from tests.training.evaluation import models
from training.data.tokenizer import Tokenizer


def _stale(data: dict[str, Any]) -> Callable[[Site], list[str]]:
    """A config whose data section differs from the one that its data was prepared with."""

    def make(site: Site) -> list[str]:
        site.trained()
        prepared = json.loads(Path(site.config()).read_text())["data"]
        return [site.config(run={"folder": str(site.folder / "new")}, data={**prepared, **data})]

    return make


def _held(name: str, **data: Any) -> Callable[[Site], list[str]]:
    """A data folder that holds a file of somebody's own."""

    def make(site: Site) -> list[str]:
        site.trained()
        site.write(name, "mine")
        prepared = json.loads(Path(site.config()).read_text())["data"]
        return [site.config(data={**prepared, "train_on_prompt": True, **data})]

    return make


def _dry(make: Callable[[Site], list[str]]) -> Callable[[Site], list[str]]:
    return lambda site: [*make(site), "--dry-run"]


def _check(make: Callable[[Site], list[str]]) -> Callable[[Site], list[str]]:
    return lambda site: ["train", *make(site)]


def _replaced_file(site: Site) -> list[str]:
    site.write("data", "mine")
    return [site.config()]


def _linked_folder(site: Site) -> list[str]:
    (site.folder / "elsewhere").mkdir()
    (site.folder / "data").symlink_to(site.folder / "elsewhere")
    return [site.config()]


def _manifest_of_a_run(site: Site) -> list[str]:
    data = {"folder": str(site.trained().folder / "run")}
    tree = json.loads(Path(site.config()).read_text())
    return [site.config(run={"folder": str(site.folder / "new")}, data={**tree["data"], **data})]


def _chat_without_template(site: Site) -> list[str]:
    models.tokenizer().save(site.folder / "tokenizer")
    source = f"data.tokenizer.source={site.folder}/tokenizer"
    return [site.config(), source, "data.prompt_template=chat"]


def _other_initial_weights(site: Site) -> list[str]:
    # As many ids as the data's tokenizer has, which stand for other texts.
    site.trained()
    ours = Tokenizer.load(site.folder / "data")
    other = Tokenizer.train(["zebras quickly jumped over vexing boxes " * 9], vocab_size=400)
    assert other.vocab_size <= ours.vocab_size
    models.write_generator(site.folder / "weights", vocab_size=512)
    other.save(site.folder / "weights")
    run = {"folder": str(site.folder / "new")}
    model = models.shape(512).settings() | {"initial_weights": str(site.folder / "weights")}
    return [site.config(run=run, model=model)]


def _run_folder(name: str, content: str) -> Callable[[Site], list[str]]:
    def make(site: Site) -> list[str]:
        site.trained()
        site.write(f"mine/{name}", content)
        return [site.config(run={"folder": str(site.folder / "mine")})]

    return make


def _sample(site: Site, folder: str, more: dict[str, str] | None = None) -> list[str]:
    """A sampling config on the models and questions of tests/training/evaluation."""
    models.write_generator(site.folder / "step_1", seed=1)
    models.write_gsm8k(site.folder / "gsm8k", 3)
    questions = {"name": "toy", "kind": "gsm8k", "path": "gsm8k", "split": "train"}
    checkpoints = ["step_1", *(more or {})]
    tree = {
        "run": {"folder": folder},
        "sampling": {
            "checkpoints": checkpoints,
            "num_candidates": 2 * len(checkpoints),
            "questions": questions,
        },
        "tracking": {"mode": "disabled"},
    }
    return [site.write("sample.json", json.dumps(tree))]


def _sample_over_files(site: Site) -> list[str]:
    site.write("mine/part-00000.parquet", "mine")
    return _sample(site, "mine")


def _sample_over_a_run(site: Site) -> list[str]:
    site.trained()
    return _sample(site, "run")


def _sample_with_two_tokenizers(site: Site) -> list[str]:
    models.write_generator(site.folder / "step_2", seed=2)
    Tokenizer.train(["zebras jumped over boxes"], vocab_size=300).save(site.folder / "step_2")
    return _sample(site, "candidates", {"step_2": ""})


def _evaluate_with_two_tokenizers(site: Site) -> list[str]:
    models.write_generator(site.folder / "generator")
    models.write_verifier(site.folder / "verifier")
    Tokenizer.train(["zebras jumped over boxes"], vocab_size=300).save(site.folder / "verifier")
    models.write_gsm8k(site.folder / "gsm8k", 3)
    benchmark = {"name": "toy", "kind": "gsm8k", "path": "gsm8k"}
    tree = {
        "run": {"folder": "evaluation"},
        "evaluation": {
            "generator": "generator",
            "verifier": "verifier",
            "benchmarks": [benchmark],
        },
        "tracking": {"mode": "disabled"},
    }
    return [site.write("evaluate.json", json.dumps(tree))]


def _recipe_over_a_model(site: Site) -> list[str]:
    from tests.ranks import ROOT

    site.write("model/config.json", json.dumps({"architectures": ["PhiForCausalLM"]}))
    return [str(ROOT / "configs" / "recipe_demo.toml"), f"run.folder={site.folder}/model"]


def _report_over_a_page(site: Site) -> list[str]:
    site.write("run/evaluation.json", json.dumps({"benchmarks": {"toy": {"num_questions": 3}}}))
    site.write("run/report.html", "<title>my report</title>")
    return ["run"]


def _plan_over_a_file(site: Site) -> list[str]:
    site.write("plan.json", "mine")
    return [site.config(), "--world-size", "1", "--json", "plan.json"]


def _execute_over_its_input(site: Site) -> list[str]:
    path = site.write("in.jsonl", json.dumps({"code": "x = 1", "kind": "var:x"}) + "\n")
    return [path, path]


CASES = [
    BadInput(
        name="data prepared with another form of supervision",
        verb="train",
        make=_stale({"train_on_prompt": True}),
        says=["data.train_on_prompt was False, is True", "set another data.folder"],
    ),
    BadInput(
        name="data prepared from fewer examples of another seed",
        verb="train",
        make=_stale({"sources": [{"kind": "problems", "num_examples": 400, "seed": 7}]}),
        says=["data.sources.0.num_examples was 300, is 400", "data.sources.0.seed was 1, is 7"],
    ),
    BadInput(
        name="stale data, checked before a job",
        verb="check",
        make=_check(_stale({"train_on_prompt": True})),
        says=["data.train_on_prompt was False, is True"],
    ),
    BadInput(
        name="data.folder is the folder of a run",
        verb="train",
        make=_manifest_of_a_run,
        says=["run holds no prepared data"],
    ),
    BadInput(
        name="train would prepare over a file in data.folder",
        verb="train",
        make=lambda site: [
            *_held("data/notes.txt", prepare_if_missing=True)(site),
            f"run.folder={site.folder}/new",
        ],
        says=["data holds notes.txt", "set another data.folder"],
    ),
    BadInput(
        name="data.folder is the run folder",
        verb="train",
        make=lambda site: [site.config(), f"data.folder={site.folder}/run"],
        says=["is data.folder = ", "set one beside the other"],
    ),
    BadInput(
        name="initial weights of another tokenizer",
        verb="train",
        make=_other_initial_weights,
        says=["data.folder = ", "model.initial_weights = ", "different tokenizers"],
    ),
    BadInput(
        name="a run folder with another project's checkpoints",
        verb="train",
        make=_run_folder("checkpoints/step_100/weights", "mine"),
        says=["mine holds checkpoints", "set another run.folder"],
    ),
    BadInput(
        name="a run folder with somebody's own metrics",
        verb="train",
        make=_run_folder("metrics.jsonl", '{"step": 900, "loss": 1}\n'),
        says=["mine holds metrics.jsonl", "set another run.folder"],
    ),
    BadInput(
        name="sampling into a folder with parts of somebody's own",
        verb="sample",
        make=_sample_over_files,
        says=["mine holds part-00000.parquet", "set another run.folder"],
    ),
    BadInput(
        name="sampling into a training run",
        verb="sample",
        make=_sample_over_a_run,
        says=["holds the run.json of train", "set another run.folder"],
    ),
    BadInput(
        name="sampling from models of two tokenizers",
        verb="sample",
        make=_sample_with_two_tokenizers,
        says=["sampling.checkpoints.0 = step_1", "sampling.checkpoints.1 = step_2", "tokenizers"],
    ),
    BadInput(
        name="a verifier of another tokenizer",
        verb="evaluate",
        make=_evaluate_with_two_tokenizers,
        says=["evaluation.generator = generator", "evaluation.verifier = verifier", "tokenizers"],
    ),
    BadInput(
        name="a recipe in the folder of a model",
        verb="check",
        make=lambda site: ["recipe", *_recipe_over_a_model(site), "--write"],
        says=["holds a config.json of something else", "set another run.folder"],
    ),
    BadInput(
        name="a report over a page of somebody's own",
        verb="report",
        make=_report_over_a_page,
        says=["report.html is there and no report wrote it"],
    ),
    BadInput(
        name="a plan over a file",
        verb="plan",
        make=_plan_over_a_file,
        says=["plan.json is there already"],
    ),
]
ONE_RANK = [
    BadInput(
        name="stale data in a dry run",
        verb="train",
        make=_dry(_stale({"min_question_characters": 30})),
        says=["data.min_question_characters was 20, is 30"],
    ),
    BadInput(
        name="stale data that is to be shown",
        verb="prepare",
        make=lambda site: [*_stale({"train_on_prompt": True})(site), "--show", "1"],
        says=["data.train_on_prompt was False, is True"],
    ),
    BadInput(
        name="prepare would remove a file in data.folder",
        verb="prepare",
        make=_held("data/notes.txt"),
        says=["data holds notes.txt", "set another data.folder"],
    ),
    BadInput(
        name="a dry run of prepare over a file",
        verb="prepare",
        make=_dry(_held("data/notes.txt")),
        says=["data holds notes.txt"],
    ),
    BadInput(
        name="data.folder holds nothing of prepare's",
        verb="prepare",
        make=lambda site: [site.write("data/rows_00000.bin", "mine") and site.config()],
        says=["data holds rows_00000.bin", "no manifest of prepare"],
    ),
    BadInput(
        name="data.folder is a file",
        verb="prepare",
        make=_replaced_file,
        says=["data is a file", "set another data.folder"],
    ),
    BadInput(
        name="data.folder is a symbolic link",
        verb="prepare",
        make=_linked_folder,
        says=["data is a symbolic link", "elsewhere"],
    ),
    BadInput(
        name="data.folder is the working folder",
        verb="prepare",
        make=lambda site: [site.config(), f"run.folder={site.folder}_run", "data.folder=."],
        says=["data.folder = . holds config.json"],
    ),
    BadInput(
        name="a folder of somebody's own where the parts would be",
        verb="prepare",
        make=lambda site: [site.write("data.parts/notes.txt", "mine") and site.config()],
        says=["data.parts holds notes.txt", "set another data.folder"],
    ),
    BadInput(
        name="parts that prepare did not write",
        verb="prepare",
        make=lambda site: [site.write("data.parts/part-000000.parquet", "mine") and site.config()],
        says=["data.parts holds part-000000.parquet"],
    ),
    BadInput(
        name="an unknown prompt template",
        verb="prepare",
        make=lambda site: [site.config(), "data.prompt_template=caht"],
        says=["data.prompt_template", "neither 'function' nor 'chat'", "{question}"],
    ),
    BadInput(
        name="a chat template of a tokenizer that has none",
        verb="prepare",
        make=_chat_without_template,
        says=["prompt_template = 'chat'", "the tokenizer has no chat template"],
    ),
    BadInput(
        name="execute with one file for both",
        verb="execute",
        make=_execute_over_its_input,
        says=["in.jsonl is there already"],
    ),
]
"""prepare and execute start no ranks but MPI's, and of a dry run the first rank alone works."""


@over(CASES)
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)


@pytest.mark.parametrize("case", ONE_RANK, ids=[case.name for case in ONE_RANK])
def test_one_rank_refuses_it(case: BadInput, site: Site) -> None:
    refused(case, 1, site)
