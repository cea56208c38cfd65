from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.training.evaluation import models
from training.config import SamplingConfig
from training.errors import CheckpointError
from training.evaluation import sampler as sampler_module
from training.evaluation.generate import Sampled, SampleRequest
from training.evaluation.sampler import Draw, Sampler, draws, function_end
from training.execution.executor import Executor, Limits


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(limits=Limits()) as entered:
        yield entered


def make(executor: Executor, *, seed: int = 1, number: int = 0, **settings: Any) -> Sampler:
    config = SamplingConfig.model_validate({"max_new_tokens": 12, **settings})
    return Sampler(
        models.generator(),
        models.tokenizer(),
        executor,
        settings=config,
        seed=seed,
        name="step_1",
        number=number,
    )


def test_candidates_spread_over_temperatures():
    assert draws((0.5, 0.7), 4, first_index=8) == [
        Draw(index=8, temperature=0.5),
        Draw(index=9, temperature=0.5),
        Draw(index=10, temperature=0.7),
        Draw(index=11, temperature=0.7),
    ]


def test_a_candidate_does_not_depend_on_its_batch(executor: Executor):
    wanted = draws((0.9, 1.1), 6)
    asked = models.questions(5)
    whole = make(executor).candidates(asked, wanted)
    assert [(c.question_id, c.index) for c in whole] == [
        (question.id, draw.index) for question in asked for draw in wanted
    ]
    small = make(executor, micro_batch_candidates=3)
    apart = [c for question in reversed(asked) for c in small.candidates([question], wanted)]
    by_place = {(c.question_id, c.index): c for c in apart}
    assert [by_place[c.question_id, c.index].program for c in whole] == [c.program for c in whole]
    assert len({(made.question_id, made.program) for made in whole}) > len(asked)


@pytest.mark.parametrize("other", [{"seed": 2}, {"number": 1}])
def test_seed_and_generator_number_change_the_draw(executor: Executor, other: dict[str, int]):
    wanted, asked = draws((1.0,), 4), models.questions(2)
    first = make(executor).candidates(asked, wanted)
    second = make(executor, **other).candidates(asked, wanted)
    assert [c.program for c in first] != [c.program for c in second]


def test_a_batch_of_failing_programs_is_a_batch_of_failed_candidates(executor: Executor):
    calls: list[None] = []
    found = make(executor).candidates(
        models.questions(8), draws((1.0,), 4), on_written=lambda: calls.append(None)
    )
    assert len(found) == len(calls) == 32
    assert {c.verdict for c in found} == {"failed"}
    assert all(c.value is None and c.error for c in found)
    assert all(c.num_tokens <= 12 for c in found)


def test_no_questions_give_no_candidates(executor: Executor):
    assert make(executor).candidates([], draws((1.0,), 4)) == []


def written(texts: Sequence[tuple[str, bool]]) -> Any:
    """Stands in for `generate`: the same texts for every question."""

    def generate(
        _: Any, requests: Sequence[SampleRequest], *, on_finished: Any, **rest: Any
    ) -> list[Sampled]:
        results: list[Sampled] = []
        for number in range(len(requests)):
            text, finished = texts[number % len(texts)]
            tokens = models.tokenizer().encode(text)
            results.append(Sampled(tokens=tokens, finished=finished))
            on_finished(number, results[-1])
        return results

    return generate


def test_programs_are_cut_run_and_judged(executor: Executor, monkeypatch: pytest.MonkeyPatch):
    texts = [
        ("    return 3 + 4\n", True),
        ("    return 3 + 5", True),
        ("", True),
        ("    return 3 + 4\nprint('and so on", False),
        ("    while True: pass", True),
        ("    return 1 / 0", True),
        ("    return 'seven'", True),
        ("    raise ValueError('\\ud800')", True),
    ]
    monkeypatch.setattr(sampler_module, "generate", written(texts))
    question = models.questions(4)[3:]
    found = make(executor).candidates(question, draws((0.5,), len(texts)))
    assert [c.verdict for c in found] == ["right", "wrong", "failed", "right"] + ["failed"] * 4
    assert [c.finished for c in found] == [True, True, True, False] + [True] * 4
    assert found[0].program == found[3].program == "    return 3 + 4"
    assert found[2].program == "" and found[2].num_tokens == 1
    assert found[4].status == "timeout"
    assert found[1].value == 8
    assert found[0].num_tokens == len(models.tokenizer().encode(texts[0][0])) + 1


def test_equal_programs_run_once(monkeypatch: pytest.MonkeyPatch, executor: Executor):
    asked: list[int] = []

    class Counting:
        def run(self, programs: Sequence[Any], **more: Any) -> Any:
            asked.append(len(programs))
            return executor.run(programs, **more)

    monkeypatch.setattr(sampler_module, "generate", written([("    return 7", True)]))
    found = make(Counting()).candidates(models.questions(2), draws((0.5,), 6))  # pyright: ignore[reportArgumentType]
    assert asked == [2]  # the docstring differs by question
    assert [c.verdict for c in found] == ["wrong"] * 12


def test_a_tokenizer_of_another_model_is_refused(executor: Executor):
    model = sampler_module.LanguageModel(models.shape(vocab_size=300 - 20))
    with pytest.raises(CheckpointError, match="embeddings for 280 ids"):
        Sampler(
            model,
            models.tokenizer(),
            executor,
            settings=SamplingConfig(),
            seed=1,
            name="step_1",
        )


BODY = "    x = 1\n    return x"
LONG = "    default = (\n1 +\n2)\n    s = '''\nabc\n'''"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BODY, BODY),
        (BODY + "\nprint(x)", BODY),
        (BODY + "\n\n\nprint('cut sh", BODY),
        (BODY + "\n\ndef simple_math_problem() -> int:\n    '''", BODY),
        (LONG + "\nfoo", LONG),
        ("    x = (1\nfoo", "    x = (1\nfoo"),
        ("x = 1\nprint(", "x = 1\nprint("),
        ("    if a:\n        b\n   c\nfoo", "    if a:\n        b\n   c\nfoo"),
        ("    x = 'a\u2028b'\n    y\nz", "    x = 'a\u2028b'\n    y"),
        ("", ""),
    ],
)
def test_a_body_ends_at_the_first_statement_that_is_not_indented(text: str, wanted: str):
    assert function_end(text) == wanted
