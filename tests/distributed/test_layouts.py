"""Layouts give one rank's numbers, and a run resumes at another: a part of
`make test-layouts`, small enough for every day."""

from pathlib import Path

import pytest

from tests.layouts.cases import ONE, TOLERANCES, Case, Runs, prepared

pytestmark = pytest.mark.slow

GENERATOR = (
    Case(tensor=2, zero=0),
    Case(tensor=2, zero=1, sequence=True),
    Case(pipeline=2, recompute=True),
    Case(tensor=2, pipeline=2),
    Case(tensor=2, data=2, zero=3, sequence=True),
    Case(tensor=2, data=2, zero=2),
    Case(tensor=2, pipeline=2, data=2),
    Case(tensor=2, zero=1, sequence=True, compiled=True),
    Case(pipeline=2, recompute=True, compiled=True),
)
VERIFIER = (
    Case(tensor=2, zero=1, sequence=True),
    Case(pipeline=2),
    Case(data=2, zero=2, compiled=True),
)
ROUNDED = (
    Case(tensor=2, pipeline=2),
    Case(tensor=2, data=2, zero=0),
    Case(tensor=2, data=2, zero=1, reduced=True),
    Case(data=2, zero=2, reduced=True),
)
RESUMES = (
    (ONE, Case(tensor=2, zero=1, sequence=True)),
    (Case(tensor=2, pipeline=2), Case(tensor=2, data=2, zero=3, sequence=True)),
    (Case(tensor=2, data=2, zero=3, sequence=True), Case(pipeline=2, recompute=True)),
    (Case(tensor=2, data=2, zero=2), ONE),
)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("generator")
    runs = Runs(base=prepared(folder / "data", "language_model"), folder=folder)
    runs.train((ONE, *GENERATOR))
    return runs


@pytest.fixture(scope="module")
def said(generator: Runs) -> str:
    """What was printed when the runs resumed."""
    return generator.resume(RESUMES)


@pytest.mark.parametrize("case", GENERATOR, ids=lambda case: case.name)
def test_a_generator_is_one_ranks(generator: Runs, case: Case) -> None:
    assert generator.within(case, generator), generator.differences(case, generator)


@pytest.mark.parametrize("case", GENERATOR, ids=lambda case: case.name)
def test_every_rank_evaluates_with_the_whole_weights(generator: Runs, case: Case) -> None:
    # Programs that are sampled token by token are equal only if the weights are.
    assert len(generator.samples(ONE).splitlines()) == 3
    assert generator.samples(case) == generator.samples(ONE)


def test_a_verifier_is_one_ranks(tmp_path: Path) -> None:
    runs = Runs(base=prepared(tmp_path / "data", "verifier"), folder=tmp_path)
    runs.train((ONE, *VERIFIER))
    for case in VERIFIER:
        assert runs.within(case, runs), (case.name, runs.differences(case, runs))


def test_bf16_follows(generator: Runs, tmp_path: Path) -> None:
    runs = Runs(base=generator.base, folder=tmp_path, precision="bf16")
    runs.train(ROUNDED)
    for case in ROUNDED:
        assert runs.within(case, generator), (case.name, runs.differences(case, generator))


@pytest.mark.parametrize(("saved", "case"), RESUMES, ids=lambda case: case.name)
def test_it_resumes_at_another_layout_and_says_so(
    generator: Runs, said: str, saved: Case, case: Case
) -> None:
    differences = generator.resumed_differences(saved, case)
    assert max(differences) <= max(TOLERANCES["fp32"]), differences
    folder = generator.resumed(saved, case)
    said_of_it = said.partition(f"resuming from {folder}/")[2].splitlines()[1]
    assert f"at tensor {saved.tensor} " in said_of_it and f"at tensor {case.tensor} " in said_of_it
    assert f"ZeRO-{saved.zero}," in said_of_it and said_of_it.endswith(f"ZeRO-{case.zero}")
