"""Garbage is collected at fixed steps, and by Python itself in between only where that is asked."""

import gc
import weakref

import pytest

from training.lifecycle.garbage import EVERY_STEPS, GarbageCollection


class Circle:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_it_is_collected_at_every_hundredth_step_alone() -> None:
    with GarbageCollection() as garbage:
        circle = weakref.ref(Circle())
        for step in range(1, EVERY_STEPS):
            garbage.collect_if_due(step)
            [[] for _ in range(2000)]  # enough for Python to collect on its own
        assert circle() is not None and not gc.isenabled()
        garbage.collect_if_due(EVERY_STEPS)
        assert circle() is None


def test_work_of_another_kind_is_collected_by_python_and_at_its_end() -> None:
    with GarbageCollection() as garbage:
        with garbage.automatic():
            assert gc.isenabled()
            circle = weakref.ref(Circle())
        assert circle() is None and not gc.isenabled()


def test_an_error_turns_it_on_again() -> None:
    with pytest.raises(ValueError), GarbageCollection():
        raise ValueError
    assert gc.isenabled() and gc.get_freeze_count() == 0
