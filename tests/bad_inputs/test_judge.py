"""Gold answers and programs' kinds that cannot be used, wherever they are read."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.bad_inputs.harness import BadInput, Site, over, refused

HUGE = "7" * 400


def evaluates(
    kind: str, file: str, rows: Any, *, sampling: bool = False, **evaluation: Any
) -> Callable[[Site], Sequence[str]]:
    """Evaluates, or samples, the trained run on these questions."""

    def make(site: Site) -> list[str]:
        site.trained()
        text = json.dumps(rows) if file.endswith(".json") else json.dumps(rows[0]) + "\n"
        questions = {"name": "it", "kind": kind, "path": site.write(f"questions/{file}", text)}
        model, run = str(site.newest), {"folder": str(site.folder / "out")}
        section: dict[str, Any] = (
            {"sampling": {"checkpoints": [model], "questions": {**questions, "split": "train"}}}
            if sampling
            else {"evaluation": {"generator": model, "benchmarks": [questions], **evaluation}}
        )
        return [site.write("verb.json", json.dumps({"run": run, **section}))]

    return make


def gsm8k(answer: str) -> list[dict[str, str]]:
    return [{"question": "How many?", "answer": answer}]


def svamp(answer: Any) -> list[dict[str, Any]]:
    return [{"Body": "Ann has 3.", "Question": "How many?", "Answer": answer}]


CASES = [
    BadInput(
        name="a gold of 400 digits",
        verb="evaluate",
        make=evaluates("gsm8k", "test.jsonl", gsm8k(f"So much.\n#### {HUGE}")),
        says=["test.jsonl", "question 0", "gold is '777", "(402 characters)", "at most 1.8e308"],
    ),
    BadInput(
        name="a gold in words",
        verb="sample",
        make=evaluates("gsm8k", "train.jsonl", gsm8k("#### seven"), sampling=True),
        says=["train.jsonl", "question 0", "gold is 'seven'", "a number is needed"],
    ),
    BadInput(
        name="a SVAMP answer of 400 digits",
        verb="evaluate",
        make=evaluates("svamp", "SVAMP.json", svamp(int(HUGE))),
        says=["SVAMP.json", "question 0", "gold is 777", "(400 characters)", "at most 1.8e308"],
    ),
    BadInput(
        name="a SVAMP answer that is null",
        verb="evaluate",
        make=evaluates("svamp", "SVAMP.json", svamp(None)),
        says=["SVAMP.json", "question 0", "gold is None", "a number is needed"],
    ),
    BadInput(
        name="a benchmark of an unknown kind",
        verb="evaluate",
        make=evaluates("gsm9k", "test.jsonl", gsm8k("#### 1")),
        says=["evaluation.benchmarks.0.kind", "'gsm8k'", "'gsm_symbolic'", "'mgsm'"],
    ),
    BadInput(
        name="a table with other columns",
        verb="evaluate",
        make=evaluates("table", "test.jsonl", [{"frage": "Wie viele?", "antwort": 3}]),
        says=["no column 'answer'", "frage, antwort", "set question_column and answer_column"],
    ),
    BadInput(
        name="a published set without any number",
        verb="evaluate",
        make=evaluates("gsm1k", "test.jsonl", gsm8k("many")),
        says=["no question whose gold answer is a number", "question 0: gold is 'many'"],
    ),
    BadInput(
        name="corrections of questions that are not evaluated",
        verb="evaluate",
        make=evaluates("gsm8k", "test.jsonl", gsm8k("#### 1"), corrections="shipped"),
        says=["evaluation.corrections corrects 1 questions, none of which is evaluated"],
    ),
    BadInput(
        name="corrections that are not there",
        verb="evaluate",
        make=evaluates("gsm8k", "test.jsonl", gsm8k("#### 1"), corrections="none.jsonl"),
        says=["evaluation.corrections = 'none.jsonl'"],
    ),
]


@over(CASES)
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)


def executes(line: str) -> Callable[[Site], Sequence[str]]:
    """Executes a file whose second line is this."""
    return lambda site: [
        site.write("in.jsonl", '{"code": "x = 1", "kind": "var:x", "gold": 1}\n' + line + "\n"),
        str(site.folder / "out.jsonl"),
    ]


FILES = [
    BadInput(
        name="a gold number of 400 digits",
        verb="execute",
        make=executes(f'{{"code": "x", "gold": {HUGE}}}'),
        says=["in.jsonl, line 2", "gold is 777", "(400 characters)", "at most 1.8e308"],
    ),
    BadInput(
        name="a gold text of 400 digits",
        verb="execute",
        make=executes(f'{{"code": "x", "gold": "{HUGE}"}}'),
        says=["in.jsonl, line 2", "gold is '777", "(402 characters)", "at most 1.8e308"],
    ),
    BadInput(
        name="an infinite gold",
        verb="execute",
        make=executes('{"code": "x", "gold": -Infinity}'),
        says=["in.jsonl, line 2", "gold is -inf", "a finite number is needed"],
    ),
    BadInput(
        name="a gold that is a list",
        verb="execute",
        make=executes('{"code": "x", "gold": [5]}'),
        says=["in.jsonl, line 2", "gold is [5]", "a number is needed"],
    ),
    BadInput(
        name="an empty kind",
        verb="execute",
        make=executes('{"code": "x", "kind": ""}'),
        says=["in.jsonl, line 2", "kind is ''", "set func:NAME, var:NAME or stdout-last"],
    ),
]


@pytest.mark.parametrize("case", FILES, ids=[case.name for case in FILES])
def test_a_file_of_programs_is_refused(case: BadInput, site: Site) -> None:
    """On one rank: execute.py refuses ranks that MPI did not start, whatever it is given."""
    refused(case, 1, site)
