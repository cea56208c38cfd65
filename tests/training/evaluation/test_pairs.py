import numpy as np
import pytest

from training.config import BenchmarkConfig
from training.data.benchmarks import ORIGINAL, text_key
from training.evaluation.pairs import Measured, against, compared, metrics
from training.evaluation.statistics import Outcomes
from training.records import Question


def measured(name: str, texts: list[str], right: list[bool], original: str = "") -> Measured:
    """Questions whose two candidates and whose greedy program are all right, or all wrong."""
    questions = [
        Question(
            id=f"{name}-{number}",
            text=text,
            gold=1.0,
            tags={ORIGINAL: text_key(original)} if original else {},
        )
        for number, text in enumerate(texts)
    ]
    rows = np.array(right, bool)
    outcomes = Outcomes(
        right=np.stack([rows, rows], axis=1),
        group=np.zeros((len(texts), 2), np.int64),
        score=np.ones((len(texts), 2)),
        greedy_right=rows,
    )
    return Measured(name=name, questions=questions, outcomes=outcomes)


GSM8K = measured("gsm8k", ["One?", "Two?", "Three?", "Four?"], [True, False, True, True])


def test_equal_texts_are_paired_whatever_their_order() -> None:
    platinum = measured("platinum", ["three", "Five?", "TWO?"], [True, False, True])

    found = against(GSM8K, platinum, num_bootstrap=200, seed=1)

    assert (found["reference"], found["num_pairs"], found["num_questions"]) == ("gsm8k", 2, 2)
    for name in ("pass_at_1", "sampled_pass_at_1", "pass_at_n", "majority_at_n", "verify_at_n"):
        assert found[name]["here"]["value"] == 1.0
        assert found[name]["there"]["value"] == 0.5
        assert found[name]["difference"]["value"] == 0.5
        assert found[name]["difference"]["low"] == 0.0
        assert found[name]["difference"]["high"] == 1.0


def test_variants_of_one_question_are_one_pair() -> None:
    of_one = measured("a", ["v", "w", "x"], [True, False, False], original="one")
    of_two = measured("a", ["y"], [True], original="Two?")
    variants = Measured(
        name="variants",
        questions=[*of_one.questions, *of_two.questions],
        outcomes=measured("", list("vwxy"), [True, False, False, True]).outcomes,
    )

    found = against(GSM8K, variants, num_bootstrap=200, seed=1)

    assert (found["num_pairs"], found["num_questions"]) == (2, 4)
    # Means of 1/3 and 1, beside 1 and 0: each original weighs the same.
    assert found["pass_at_1"]["here"]["value"] == pytest.approx(2 / 3)
    assert found["pass_at_1"]["difference"]["value"] == pytest.approx((1 / 3 - 1 + 1) / 2)


def test_the_interval_is_of_the_differences_not_of_two_accuracies() -> None:
    texts, right = [f"Question {n}?" for n in range(40)], [n % 2 == 0 for n in range(40)]
    same = measured("same", texts, right)

    found = against(measured("gsm8k", texts, right), same, num_bootstrap=200, seed=1)

    assert found["pass_at_1"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["pass_at_1"]["here"]["low"] < 0.5 < found["pass_at_1"]["here"]["high"]


def test_without_pairs_there_is_no_difference() -> None:
    found = against(GSM8K, measured("svamp", ["Six?"], [True]), num_bootstrap=200, seed=1)

    assert found == {"reference": "gsm8k", "num_pairs": 0, "num_questions": 0}


def test_only_other_sets_are_compared_with_gsm8k() -> None:
    def entry(name: str, kind: str) -> BenchmarkConfig:
        count = {"num_questions": 1} if kind == "problems" else {}
        return BenchmarkConfig.model_validate({"name": name, "kind": kind, **count})

    entries = [entry("mine", "problems"), entry("svamp", "svamp"), entry("gsm8k", "gsm8k")]
    entries += [entry("part", "gsm8k"), entry("platinum", "gsm8k_platinum")]
    sets = {name: measured(name, ["One?"], [True]) for name in ("mine", "part", "platinum")}
    sets |= {"gsm8k": GSM8K, "svamp": measured("svamp", ["Six?"], [True])}

    found = compared(entries, sets, num_bootstrap=200, seed=1)

    assert set(found) == {"svamp", "platinum"}
    assert metrics(found) == {
        f"eval/platinum/{name}_minus_gsm8k": 0.0
        for name in ("pass_at_1", "sampled_pass_at_1", "majority_at_k", "verify_at_k")
    }
    assert compared(entries[:2], sets, num_bootstrap=200, seed=1) == {}
