import threading

import pytest

from training.data.prefetch import Prefetcher


def test_gives_what_the_function_gives_at_each_position() -> None:
    ahead = Prefetcher(lambda position: position * 10, stride=3)
    assert [ahead.take(position) for position in (0, 3, 6, 9)] == [0, 30, 60, 90]
    assert ahead.take(30) == 300  # a resume
    assert ahead.take(33) == 330
    ahead.close()


def test_the_next_steps_are_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def make(position: int) -> int:
        made[position].set()
        return position

    ahead = Prefetcher(make, stride=1, ahead=2)
    assert not any(event.is_set() for event in made)
    assert ahead.take(0) == 0
    assert made[1].wait(10) and made[2].wait(10) and not made[3].is_set()
    ahead.close()


def test_an_error_is_raised_at_its_position_and_not_before() -> None:
    def make(position: int) -> int:
        if position == 2:
            raise ValueError("position 2")
        return position

    ahead = Prefetcher(make, stride=1, ahead=3)
    assert [ahead.take(0), ahead.take(1)] == [0, 1]
    with pytest.raises(ValueError, match="position 2"):
        ahead.take(2)
    assert ahead.take(3) == 3
    ahead.close()
