import json
from collections import Counter
from typing import Any

import pytest

from tests.training.data.real import real_data
from training.data.gsm8k import NoProgramError, gold_of, program_of
from training.execution import programs
from training.execution.executor import Executor, Limits, Program, same_number
from training.execution.sandbox.cutting import cut


def lines(answer: str, question: str = "") -> list[str]:
    return [line.strip() for line in program_of(question, answer).splitlines()]


def test_every_mark_is_a_line_that_reuses_earlier_results() -> None:
    answer = (
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
        "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
    )
    assert program_of("", answer) == (
        "    clips_in_may = 48 / 2\n"
        "    clips_altogether_in_april = 48 + clips_in_may\n"
        "    result = clips_altogether_in_april\n"
        "    return result"
    )


def test_an_unmarked_last_step_is_found() -> None:
    answer = (
        "She needs 20*40 = <<20*40=800>>800 bolts of blue wool.\n"
        "At 3 dollars each, 800 bolts * $3 per bolt = $2,400\n#### 2,400"
    )
    assert lines(answer)[-3:] == [
        "dollars = bolts_of_blue_wool * 3",
        "result = dollars",
        "return result",
    ]


def test_a_rounded_result_is_carried_on_exactly_where_that_gives_gold() -> None:
    answer = "That is 1/3=<<1/3=0.33>>0.33 cakes\nSo 0.33*30=<<0.33*30=10>>10 pieces\n#### 10"
    assert "pieces = cakes * 30" in lines(answer)
    answer = "That is 1/3=<<1/3=0.33>>0.33 cakes\nSo 0.33*300=<<0.33*300=99>>99 pieces\n#### 99"
    assert "pieces = 0.33 * 300" in lines(answer)


def test_percentages_and_repeated_numbers_stay_numbers() -> None:
    answer = "So 50*2=<<50*2=100>>100 men\nand 40/100*100=<<40/100*100=40>>40 women\n#### 40"
    assert "women = 40 / 100 * men" in lines(answer)
    answer = "He has 1+1=<<1+1=2>>2 pens\nand 2*2=<<2*2=4>>4 nibs\n#### 4"
    assert "nibs = pens * 2" in lines(answer)


def test_the_question_s_own_number_is_not_taken_for_an_old_result() -> None:
    answer = (
        "He has 10+5=<<10+5=15>>15 pens\nShe has 3*4=<<3*4=12>>12 pens\n"
        "so 12+15=<<12+15=27>>27 pens\n#### 27"
    )
    assert "pens_3 = pens_2 + pens" in lines(answer)
    assert "pens_3 = pens_2 + 15" in lines(answer, "There are 15 more.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("It is seven.\n#### 7", "no calculation in the answer"),
        ("So 3*2=<<3*2=6>>6.\n#### 7", "no calculation gives gold"),
        ("So 3*2=<<3*2=7>>7.\n#### 7", "do not compute to gold"),
        ("3x=21\nx=<<7=7>>7.\n#### 7", "stated, not calculated"),
        ("So 7/0=<<7/0=7>>7\n#### 7", "no calculation"),
        (f"So 3*2=<<3*2=6>>6.\n#### {'6' * 400}", "no number after ####"),
        (f"So <<{'9' * 400}+1=7>>7\n#### 7", "no calculation"),
        (f"So {'9' * 190} * {'9' * 190} = 7\n#### 7", "no calculation"),
        (f"So <<{'9' * 90}*{'9' * 90}=8>>8\n<<{'9' * 90}*8*8=7>>7\n#### 7", "do not compute"),
        (f"So <<{'+'.join('1' * 20_000)}=7>>7\n#### 7", "no calculation"),
        (f"So <<{'-' * 50_000}1=7>>7\n#### 7", "no calculation"),
    ],
)
def test_answers_without_a_program_say_why(answer: str, reason: str) -> None:
    with pytest.raises(NoProgramError, match=reason):
        program_of("", answer)


def test_names_are_identifiers_and_never_hide_python_s_own() -> None:
    answer = "So 3*2=<<3*2=6>>6 sum.\nThen 6+1=<<6+1=7>>7 class\n7-2=<<7-2=5>>5 result\n#### 5"
    assert [line.split(" = ")[0] for line in lines(answer)[:3]] == ["sum_2", "class_2", "result_2"]


def test_gold_is_read_with_commas_and_signs() -> None:
    assert gold_of("x\n#### 1,234") == 1234
    assert gold_of("x\n#### -5") == -5
    with pytest.raises(ValueError, match="no number after ####"):
        gold_of("x = 3")
    with pytest.raises(ValueError, match="after ####: gold is 'three': a number is needed"):
        gold_of("x = 3\n#### three")
    with pytest.raises(
        ValueError, match=r"after ####: gold is '1+…1+' \(402 characters\): a finite"
    ):
        gold_of("x\n#### " + "1" * 400)


@pytest.fixture(scope="module")
def real_rows() -> list[dict[str, Any]]:
    text = real_data("gsm8k/train.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_most_of_the_real_answers_become_programs(real_rows: list[dict[str, Any]]) -> None:
    reasons: Counter[str] = Counter()
    for row in real_rows:
        try:
            program_of(row["question"], row["answer"])
            reasons["kept"] += 1
        except NoProgramError as error:
            reasons[str(error)] += 1
    assert len(real_rows) == 7473
    assert reasons == {
        "kept": 7160,  # 95.8 %
        "no calculation gives gold": 128,
        "a number is stated, not calculated": 127,
        "no calculation in the answer": 58,
    }


def test_real_programs_run_to_gold_in_the_sandbox(real_rows: list[dict[str, Any]]) -> None:
    kept: list[tuple[Program, float]] = []
    for row in real_rows[::10]:
        try:
            body = program_of(row["question"], row["answer"])
        except NoProgramError:
            continue
        code = programs.source(row["question"], body)
        assert cut(code).program == body
        kept.append((Program(code=code), gold_of(row["answer"])))
    with Executor(limits=Limits()) as executor:
        executions = executor.run([program for program, _ in kept])
    for execution, (program, gold) in zip(executions, kept, strict=True):
        assert execution.value is not None and same_number(execution.value, gold), program.code
