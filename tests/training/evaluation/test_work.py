from pathlib import Path
from typing import Any

import pytest

from parallel.ranks import Ranks
from tests.training.evaluation import models
from training.config import ConfigError
from training.data import candidates
from training.evaluation import work
from training.evaluation.work import Part


def rank(number: int, world_size: int) -> Ranks:
    return Ranks(rank=number, world_size=world_size, local_rank=number, launcher="test")


def test_parts_cover_every_question_of_every_generator_once():
    planned = work.parts(10, questions_per_part=4, num_generators=2)
    assert [part.number for part in planned] == list(range(6))
    assert planned[2] == Part(number=2, generator=0, start=8, stop=10)
    assert planned[3] == Part(number=3, generator=1, start=0, stop=4)
    for generator in range(2):
        asked = [
            question
            for part in planned
            if part.generator == generator
            for question in range(part.start, part.stop)
        ]
        assert asked == list(range(10))
    assert work.parts(0, questions_per_part=4) == []


@pytest.mark.parametrize("world_size", [1, 3, 20])
def test_shares_are_even_and_complete(world_size: int):
    shares = [work.of_rank(list(range(10)), rank(i, world_size)) for i in range(world_size)]
    assert sorted(item for share in shares for item in share) == list(range(10))
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1


def test_keys_differ_in_every_part_of_them():
    keys = {
        work.key(seed, question, generator, index)
        for seed in (1, 2)
        for question in ("q-1", "q-2")
        for generator in (0, 1)
        for index in (0, 1)
    }
    assert len(keys) == 16


def test_the_first_ranks_error_is_everyones():
    told: list[Any] = []

    class Told(Ranks):
        """Hears what rank 0 said."""

        def broadcast(self, value: Any) -> Any:
            told.append(value)
            return told[0]

    def fail() -> None:
        raise ConfigError("wrong")

    for number in range(2):
        ranks = Told(rank=number, world_size=2, local_rank=number, launcher="test")
        with pytest.raises(ConfigError, match="wrong"):
            ranks.on_main(fail)


def test_only_whole_parts_of_this_making_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    planned = work.parts(10, questions_per_part=3)
    for number, made_from in ((0, "this"), (1, "other"), (7, "this")):
        path = candidates.part_path(tmp_path, number)
        candidates.write(path, [], labels={work.MADE_FROM: made_from})
    candidates.part_path(tmp_path, 2).write_bytes(b"damaged")
    missing = work.waiting(tmp_path, planned, "this")
    assert [part.number for part in missing] == [1, 2, 3]
    assert [path.name for path in candidates.part_paths(tmp_path)] == ["part-00000.parquet"]
    assert "3 parts" in caplog.text
    caplog.clear()
    assert len(work.waiting(tmp_path, planned, "this")) == 3
    assert not caplog.text


def test_the_fingerprint_of_questions_sees_gold():
    asked = models.questions(2)
    other = [*asked[:1], models.questions(3)[2]]
    assert work.fingerprint(asked) == work.fingerprint(list(asked)) != work.fingerprint(other)
