"""Every architecture in layouts of all kinds: one rank's numbers, resumed at another layout."""

from pathlib import Path

import pytest

from tests.layouts.cases import ONE, Case, Runs, prepared
from tests.training.models.families import FAMILIES
from training.config import TrainConfig, resolved

pytestmark = pytest.mark.slow

EVERYTHING = Case(tensor=2, pipeline=2, data=2)
CASES = (
    Case(data=2, zero=3),
    Case(tensor=2, zero=1, sequence=True),
    Case(pipeline=2, recompute=True),
    EVERYTHING,
)
RESUMES = ((EVERYTHING, Case(data=2, zero=3)), (Case(data=2, zero=3), Case(pipeline=2)))
ARCHITECTURES = ("smollm2", "qwen2", "qwen3")


def _runs(folder: Path, family: str, data: TrainConfig) -> Runs:
    tree = resolved(data)
    for name in ("rotary_fraction", "norm_eps", "num_key_value_heads", "head_dim"):
        del tree["model"][name]  # Phi's
    tree["model"] |= FAMILIES[family]
    return Runs(base=TrainConfig.model_validate(tree), folder=folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return prepared(tmp_path_factory.mktemp("data"), "language_model")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: TrainConfig
) -> Runs:
    made = _runs(tmp_path_factory.mktemp(request.param), request.param, data)
    made.train((ONE, *CASES))
    made.resume(RESUMES)
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layout_gives_one_ranks_numbers(runs: Runs, case: Case) -> None:
    assert runs.within(case, runs), runs.differences(case, runs)


@pytest.mark.parametrize(("saved", "case"), RESUMES, ids=lambda case: case.name)
def test_a_run_resumes_at_another_layout(runs: Runs, saved: Case, case: Case) -> None:
    assert max(runs.resumed_differences(saved, case)) < 1e-5


def test_in_training_evaluation_gives_the_same_programs(runs: Runs) -> None:
    assert runs.samples(EVERYTHING) == runs.samples(ONE)
