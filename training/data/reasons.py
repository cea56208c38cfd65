"""Names of all that `prepare` counts: why rows are dropped, and what is repaired in them.

They appear in the manifest, in the table that `prepare` prints and in `filters.md`.
"""

# Of the question.
TOO_SHORT = "question too short"
NO_NUMBER = "question without a number"

# Of the question beside the benchmarks'.
OVERLAP = "overlaps a benchmark"
NEAR_BENCHMARK = "near duplicate of a benchmark question"

# Of the program.
EMPTY_PROGRAM = "program is empty"
NOT_CUT = "code cannot be cut into question and program"
FAILED = {
    "error": "program fails",
    "nonnumeric": "program gives no finite number",
    "timeout": "program runs too long",
    "memory": "program needs too much memory",
    "output": "program prints too much",
}
"""By the status of its execution, if that is not `ok`."""

# Of a completion whose columns the config names, and of its answer beside gold.
EMPTY_COMPLETION = "completion is empty"
GOLD_NO_NUMBER = "gold answer is no number"
NO_ANSWER = "no answer found in the text"
NOT_GOLD = "answer is not gold"

# Of both.
HALF_CHARACTER = "half a character in the text"
TOO_LONG = "longer than a sequence"

# Beside the examples before.
DUPLICATE = "duplicate question"
NEAR_DUPLICATE = "near duplicate of a question"
DUPLICATE_PROGRAM = "duplicate program of a question"
ONE_VERDICT = "candidate: its question has only right or only wrong programs"
SURPLUS = "candidate: its question has more of this verdict than of the other"
NOT_FINISHED = "candidate: not finished"

# Repaired in the question.
ESCAPE = "escape in the question"
DELIMITER = "delimiter around the question"
