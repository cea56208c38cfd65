"""The built-in problem writer: word problems without a data set.

    write_problem(seed=0, index=17, difficulty=Difficulty(max_operations=4))

Problems are random graphs of quantities told in one of several kinds of stories, each
with a program in the TinyGSM format that computes the answer.
"""

from training.data.problems.growth import OPERATIONS
from training.data.problems.stories import STORY_KINDS
from training.data.problems.writer import Difficulty, Problem, write_problem

__all__ = ["OPERATIONS", "STORY_KINDS", "Difficulty", "Problem", "write_problem"]
