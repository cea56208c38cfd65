"""Writes word problems with programs and answers, for training and evaluation without data sets.

    write_problem(seed=0, index=17, difficulty=Difficulty(max_operations=4))

A problem is a random graph of quantities, worded as one of several kinds of stories, with a
program in the TinyGSM format that computes the answer.
"""

from training.data.problems.growth import OPERATIONS
from training.data.problems.stories import STORY_KINDS
from training.data.problems.writer import Difficulty, Problem, write_problem

__all__ = ["OPERATIONS", "STORY_KINDS", "Difficulty", "Problem", "write_problem"]
