"""The built-in problem writer: every program is run, every claim about it checked."""

import ast
import builtins
import keyword
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from training.data.problems import (
    OPERATIONS,
    STORY_KINDS,
    Difficulty,
    Problem,
    write_problem,
)
from training.data.problems.growth import needed
from training.data.problems.stories import STORIES
from training.data.problems.words import NAMES
from training.data.problems.writer import compose, worded
from training.execution import programs
from training.execution.sandbox.cutting import cut

# Numbers that a word stands for in the text.
_WORDS = {
    2: ("half", "twice", "two "),
    3: ("third", "three "),
    4: ("quarter", "quarters"),
    5: ("fifth", "fifths"),
    100: ("percent",),
}


@cache
def sample() -> tuple[Problem, ...]:
    """Three hundred problems of every length, all kinds of stories and facts."""
    return tuple(
        write_problem(11, index, difficulty)
        for num in range(1, 11)
        for difficulty in [
            Difficulty(min_operations=num, max_operations=num, max_distractors=num % 4)
        ]
        for index in range(300)
    )


def run(problem: Problem) -> int | float:
    """The result of the whole function; exec will do for programs that we wrote."""
    space: dict[str, object] = {}
    exec(programs.source(problem.question, problem.program), space)
    function = space[programs.FUNCTION]
    assert callable(function)
    result = function()
    assert isinstance(result, int | float)
    return result


def assignments(problem: Problem) -> dict[str, ast.expr]:
    """Every assigned variable with its expression, `result` left out."""
    lines: dict[str, ast.expr] = {}
    for node in ast.parse("def f():\n" + problem.program).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            assert isinstance(target, ast.Name)
            assert target.id not in lines, f"{target.id} is assigned twice"
            lines[target.id] = node.value
    assert "result" in lines
    del lines["result"]
    return lines


def test_programs_give_the_answer_and_only_sensible_ones():
    for problem in sample():
        assert run(problem) == problem.answer, problem
        assert isinstance(problem.answer, int)
        assert 0 < problem.answer <= 1000


def test_every_intermediate_number_is_whole_positive_and_small():
    for problem in sample():
        values: dict[str, object] = {}
        for name, expression in assignments(problem).items():
            exact = ast.unparse(expression).replace("//", "/")
            value = eval(exact, {}, dict(values))
            assert value == int(value) and 0 < value <= 1000, problem
            values[name] = value


def test_num_operations_counts_the_lines_that_compute():
    for index, problem in enumerate(sample()):
        lines = assignments(problem)
        computed = [e for e in lines.values() if not isinstance(e, ast.Constant)]
        assert len(computed) == problem.num_operations == index // 300 + 1
        assert len(problem.operations) == problem.num_operations
        assert set(problem.operations) <= set(OPERATIONS)


def test_only_needed_variables_in_dependency_order():
    for problem in sample():
        lines, read = assignments(problem), set[str]()
        for name, expression in lines.items():
            assert name.isidentifier() and not keyword.iskeyword(name)
            assert not hasattr(builtins, name)
            used = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
            assert used <= set(lines), "reads what is not there"
            read |= used
        last = list(lines)[-1]
        assert set(lines) - read == {last}
        ending = f"    result = {last}\n    return result"
        assert problem.program.endswith(ending)


def test_questions_state_every_number_of_the_program():
    for problem in sample():
        stated = {int(number) for number in re.findall(r"\d+", problem.question)}
        for expression in assignments(problem).values():
            for node in ast.walk(expression):
                if isinstance(node, ast.Constant):
                    number = node.value
                    assert isinstance(number, int)
                    told = any(word in problem.question.lower() for word in _WORDS.get(number, ()))
                    assert number in stated or told, (number, problem)


def test_questions_read_like_questions():
    for problem in sample():
        question = problem.question
        assert question.endswith("?") and question == question.strip()
        assert not re.search(r"\s\s|[{}]|\ball all\b|\beach of all\b|\bthe all\b", question)
        sentences = re.split(r"(?<=[.?]) ", question)
        assert all(text[0].isupper() or text[0].isdigit() for text in sentences)
        assert len(sentences) == len(set(sentences))
        assert sentences[-1].startswith(("How many", "What was"))
        # The body can be cut from the whole function again.
        whole = programs.source(question, problem.program)
        parts = cut(whole)
        assert (parts.question, parts.program) == (question, problem.program)


def test_every_kind_of_story_and_operation_occurs():
    assert len(STORY_KINDS) >= 12
    assert Counter(p.story_kind for p in sample()).keys() == set(STORY_KINDS)
    assert Counter(name for p in sample() for name in p.operations).keys() == set(OPERATIONS)


def test_a_problem_is_a_pure_function_of_its_arguments():
    difficulty = Difficulty(max_operations=5)
    first = [write_problem(3, index, difficulty) for index in range(50)]
    again = [write_problem(3, index, difficulty) for index in reversed(range(50))]
    assert first == again[::-1]


def test_a_stored_problem_stays_as_it_is():
    # Guards every set ever written: a change here changes all of them.
    problem = write_problem(0, 0, Difficulty(story_kinds=("bakery",), num_phrasings=1))
    assert problem.id == "0-0"
    assert problem.question == (
        "Felix baked 50 cookies. Ben baked 3 more cookies than Olga. Leo baked 20 "
        "cookies. Hana baked 36 cookies. Vera baked 36 cookies. Ben baked 30 more "
        "cookies than Vera. How many more cookies did Felix and Olga bake than Hana?"
    )
    assert problem.program.splitlines() == [
        "    felix_cookies = 50",
        "    vera_cookies = 36",
        "    ben_cookies = vera_cookies + 30",
        "    olga_cookies = ben_cookies - 3",
        "    felix_and_olga = felix_cookies + olga_cookies",
        "    hana_cookies = 36",
        "    difference = felix_and_olga - hana_cookies",
        "    result = difference",
        "    return result",
    ]
    assert problem.answer == 77


def test_other_seeds_and_indices_give_other_questions():
    for num, most in ((1, 1e-3), (2, 1e-4)):
        difficulty = Difficulty(min_operations=num, max_operations=num + 1)
        questions = [
            write_problem(seed, index, difficulty).question
            for seed in range(4)
            for index in range(1000)
        ]
        assert len(questions) - len(set(questions)) <= most * len(questions)


def test_irrelevant_facts_are_irrelevant():
    difficulty = Difficulty(
        min_operations=2, max_operations=6, min_distractors=1, max_distractors=4
    )
    for index in range(400):
        problem = write_problem(5, index, difficulty)
        graph, asked = compose(5, index, difficulty)
        kept = needed(asked)
        spare = [fact for fact in graph.quantities if fact.fact and fact not in kept]
        assert 1 <= len(spare) <= 4
        for fact in spare:
            assert fact.fact[1:] in problem.question
        graph.quantities = kept
        without = worded(graph, asked, problem.id, shuffle=True)
        assert without.program == problem.program
        assert without.question.count(".") == problem.question.count(".") - len(spare)


def test_each_quantity_is_told_of_once():
    difficulty = Difficulty(min_operations=4, max_operations=8, max_distractors=4)
    for index in range(400):
        graph, _ = compose(6, index, difficulty)
        names = [quantity.variable for quantity in graph.quantities]
        repeated = {name for name in names if names.count(name) > 1}
        # Sums have no fact; the same two things may be told of together twice.
        assert all("_and_" in name for name in repeated), (repeated, graph)
        facts = [quantity.fact for quantity in graph.quantities if quantity.fact]
        assert len(facts) == len(set(facts))


def test_facts_are_shuffled():
    difficulty = Difficulty(min_operations=4, max_operations=4, max_distractors=0)
    told_late = 0
    for index in range(200):
        graph, asked = compose(7, index, difficulty)
        facts = [quantity.fact for quantity in graph.quantities if quantity.fact]
        ordered = worded(graph, asked, "", shuffle=False).question.lower()
        assert [ordered.index(fact.lower()) for fact in facts] == sorted(
            ordered.index(fact.lower()) for fact in facts
        )
        shuffled = worded(graph, asked, "", shuffle=True).question.lower()
        places = [shuffled.index(fact.lower()) for fact in facts]
        told_late += places != sorted(places)
    assert told_late > 150


def test_the_knobs_turn():
    plain = Difficulty(
        num_phrasings=1, num_names=8, num_items=6, max_given=12, max_number=100, max_distractors=0
    )
    problems = [write_problem(8, index, plain) for index in range(300)]
    names = {name for p in problems for name in NAMES if re.search(rf"\b{name}\b", p.question)}
    assert names == set(NAMES[:8])
    assert max(problem.answer for problem in problems) <= 100
    assert not any("compared with" in problem.question.lower() for problem in problems)
    chosen = ("more", "fewer", "sum")
    difficulty = replace(plain, operations=chosen, story_kinds=("farm", "zoo"))
    problems = [write_problem(8, index, difficulty) for index in range(300)]
    assert {name for p in problems for name in p.operations} == set(chosen)
    assert {p.story_kind for p in problems} == {"farm", "zoo"}


def test_comparisons_are_told_from_either_side():
    chosen = ("more", "fewer", "times")
    for turned in (0.0, 1.0):
        difficulty = Difficulty(
            min_operations=1, max_operations=1, max_distractors=0, num_phrasings=1,
            operations=chosen, reversed_comparison_fraction=turned,
        )  # fmt: skip
        for index in range(100):
            problem = write_problem(12, index, difficulty)
            compared = next(s for s in problem.question.split(". ") if re.search(" than | as ", s))
            # Whose number is asked for is the sentence's subject, or told by comparison with it.
            asked = next(iter(list(assignments(problem))[1:])).split("_")[0]
            target = re.split(" than | as ", compared.lower())[-1]
            assert (asked in target) == bool(turned), problem


def test_a_hasty_author_misreads_facts_and_nothing_else():
    difficulty = Difficulty(min_operations=1, max_operations=4, reversed_comparison_fraction=0.5)
    numbers = Counter[str]()
    for index in range(600):
        careful = write_problem(13, index, difficulty)
        assert careful.num_misread == 0
        hasty = write_problem(13, index, difficulty, misread_fraction=1.0)
        half = write_problem(13, index, difficulty, misread_fraction=0.5)
        assert half == write_problem(13, index, difficulty, misread_fraction=0.5)
        for problem in (hasty, half):
            told = replace(problem, program=careful.program, num_misread=0)
            assert told == careful, "question and answer stay"
            lines = zip(careful.program.split("\n"), problem.program.split("\n"), strict=True)
            differ = [pair for pair in lines if pair[0] != pair[1]]
            assert len(differ) == problem.num_misread
            assert all(a.split(" = ")[0] == b.split(" = ")[0] for a, b in differ)
            run(problem)
        numbers.update(all=hasty.num_misread, half=half.num_misread, one=hasty.num_misread > 0)
        numbers["wrong"] += run(hasty) != hasty.answer
    assert 0.45 < numbers["half"] / numbers["all"] < 0.55
    # What is misread may still give the answer: 2 times 2 is 2 plus 2.
    assert 0.95 * numbers["one"] < numbers["wrong"] <= numbers["one"]
    assert numbers["one"] > 150


def test_what_is_misread():
    expected = {
        "more": r"\w+ ([+-]) (\d+)",
        "fewer": r"\w+ ([+-]) (\d+)",
        "times": r"\w+ (\*|//) (\d)",
        "percentage": r"\w+ [+-] \w+ \* \d+ // 100",
        "pack_price": r"\d+ // \d",
    }
    seen = set[str]()
    for index in range(400):
        _, asked = compose(14, index, Difficulty(reversed_comparison_fraction=0.5))
        for quantity in needed(asked):
            if quantity.misread and quantity.operation in expected:
                seen.add(quantity.operation)
                assert re.fullmatch(expected[quantity.operation], quantity.expression)
                assert quantity.misread != quantity.expression
    assert seen == set(expected)


def test_decimal_prices_are_exact():
    difficulty = Difficulty(decimals=True, operations=("unit_price", "change", "more"))
    problems = [write_problem(9, index, difficulty) for index in range(400)]
    assert any(isinstance(problem.answer, float) for problem in problems)
    for problem in problems:
        assert run(problem) == problem.answer
        assert problem.answer * 4 == int(problem.answer * 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_operations": 5, "max_operations": 3}, "min_operations is 5.*max_operations.* 3"),
        ({"min_distractors": 2, "max_distractors": 1}, "min_distractors is 2.*is 1"),
        ({"min_operations": 0}, "min_operations 0 .*max_operations 4 .*1 to 10"),
        ({"max_operations": 11}, "max_operations 11 .*1 to 10"),
        ({"max_distractors": 7}, "max_distractors 7 .*0 to 6"),
        ({"story_kinds": ("bakery", "moon")}, "moon.*bakery, farm"),
        ({"story_kinds": ()}, "story_kinds has nothing"),
        ({"operations": ("power",)}, "power.*times"),
        ({"num_phrasings": 0}, "num_phrasings is 0, not within 1 to 4"),
        ({"max_number": 10_000}, "max_number is 10000, not within 100 to 9999"),
        (
            {"reversed_comparison_fraction": 1.5},
            "reversed_comparison_fraction is 1.5, not within 0 to 1",
        ),
    ],
)
def test_bad_difficulty_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Difficulty(**settings)  # type: ignore[arg-type]


def test_operations_that_cannot_make_the_problem_are_refused():
    only_last = Difficulty(min_operations=3, max_operations=3, operations=("share",))
    with pytest.raises(ValueError, match="3 operations.*share"):
        write_problem(0, 0, only_last)
    with pytest.raises(ValueError, match="-1"):
        write_problem(-1, 0, Difficulty())


def test_the_stories_words_fit_together():
    for story in STORIES.values():
        items = [item.many for item in story.items]
        assert len(set(items)) == 12, story.name
        others = [noun.many for noun in (*story.containers, *story.places)]
        assert not set(items) & set(others), story.name
        assert len(story.parts) == len(story.containers) == len(story.places) == 3
