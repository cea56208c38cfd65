# pyright: reportPrivateUsage=false
"""What `auto` becomes: the rule on made-up peaks, and ranks whose memory differs."""

from pathlib import Path
from typing import Any

import pytest

from parallel.layout import Layout
from parallel.planning import auto
from parallel.planning.auto import HEADROOM, Choice, Peaks, choose, sizes
from parallel.planning.device_memory import available_memory, ranks_on_node
from parallel.planning.plan import make_plan
from parallel.ranks import Ranks
from tests import small
from tests.ranks import run_distributed
from training.config import ConfigError, TrainConfig

STATES, KEPT, INPUTS = 1000, 100, 10
"""Of a made-up model: bytes of its states, and of a sequence's activations without and with
recomputation."""


def _config(folder: Path, **changes: Any) -> TrainConfig:
    return small.config(
        folder,
        training={
            "global_batch_sequences": changes.pop("batch", 64),
            "micro_batch_sequences": changes.pop("sequences", "auto"),
        },
        model={"num_layers": 8, "activation_checkpointing": changes.pop("recompute", "auto")},
        parallel=changes,
    )


def _peak(sequences: int, recomputes: bool) -> int:
    return STATES + sequences * (INPUTS if recomputes else KEPT)


def _choose(config: TrainConfig, usable: float, world_size: int = 1) -> Choice:
    memory = round(usable / (1 - HEADROOM)) + 1
    return choose(config, Layout.from_config(config, world_size), memory, _peak)


@pytest.mark.parametrize(
    ("usable", "sequences", "recomputes"),
    [
        (STATES + 64 * KEPT, 64, False),
        (STATES + 64 * KEPT - 5, 32, False),
        (STATES + 3 * KEPT, 2, False),
        # One sequence without recomputation would be slower than ten with it.
        (STATES + KEPT, 8, True),
        (STATES + INPUTS, 1, True),
    ],
)
def test_recomputation_is_the_last_resort(
    tmp_path: Path, usable: int, sequences: int, recomputes: bool
) -> None:
    found = _choose(_config(tmp_path), usable)
    assert (found.sequences, found.recomputes) == (sequences, recomputes)
    assert found.peak_bytes == _peak(sequences, recomputes) <= usable


def test_more_memory_never_makes_it_smaller(tmp_path: Path) -> None:
    config = _config(tmp_path, batch=60)
    found = [_choose(config, STATES + extra) for extra in range(INPUTS, 60 * KEPT, 7)]
    assert [each.recomputes for each in found] == sorted(
        (each.recomputes for each in found), reverse=True
    )
    for recomputes in (True, False):
        chosen = [each.sequences for each in found if each.recomputes is recomputes]
        assert len(set(chosen)) > 1 and chosen == sorted(chosen)
        assert all(60 % sequences == 0 for sequences in chosen)


def test_a_ranks_share_of_the_batch_is_the_most(tmp_path: Path) -> None:
    found = _choose(_config(tmp_path), 10**9, world_size=8)
    assert (found.sequences, found.reason) == (8, "a rank has 8 in a step")


def test_a_pipeline_keeps_as_many_micro_batches_as_stages(tmp_path: Path) -> None:
    config = _config(tmp_path, pipeline=4)
    found = _choose(config, 10**9, world_size=8)
    assert found.sequences == 8  # of 32, in 4 micro-batches
    assert "4 pipeline stages" in found.reason
    few = _config(tmp_path, pipeline=8, batch=4)
    assert sizes(few, Layout.from_config(few, 8)) == [1]


def test_headroom_is_kept(tmp_path: Path) -> None:
    config, needed = _config(tmp_path), _peak(64, False)
    layout = Layout.from_config(config, 1)
    assert choose(config, layout, needed, _peak).sequences == 32
    assert choose(config, layout, int(needed / (1 - HEADROOM)) + 1, _peak).sequences == 64


def test_what_is_not_auto_stays(tmp_path: Path) -> None:
    found = _choose(_config(tmp_path, recompute=True), STATES + 2 * KEPT)
    assert (found.sequences, found.recomputes) == (16, True)
    assert found.asked == ("training.micro_batch_sequences",)
    found = _choose(_config(tmp_path, sequences=16), STATES + 2 * KEPT)
    assert (found.sequences, found.recomputes) == (16, True)
    assert found.record()["became"] == {"model.activation_checkpointing": True}
    assert _choose(_config(tmp_path, sequences=1), STATES + KEPT).recomputes is False


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ["activations recomputed, need", "parallel.zero_stage = 2", "more ranks"]),
        ({"recompute": False}, ["activations kept", "model.activation_checkpointing = 'auto'"]),
        ({"sequences": 32}, ["32 sequences", "training.micro_batch_sequences = 'auto'"]),
    ],
)
def test_where_nothing_fits_the_message_says_what_would(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        _choose(_config(tmp_path, **changes), STATES)
    for part in [*parts, "8% that stay free"]:
        assert part in str(error.value)


def test_peaks_are_those_of_the_fullest_stage(tmp_path: Path) -> None:
    config = _config(tmp_path, pipeline=2)
    layout = Layout.from_config(config, 2)
    choice = choose(config, layout, 2**40, Peaks(config, layout))
    plan = make_plan(choice.applied(config), layout, rank=0)
    peaks = [stage.total_bytes + stage.copies_bytes for stage in plan.stages]
    assert choice.peak_bytes == max(peaks)  # on a CPU they share its memory
    assert choice.applied(config).training.sequences_at_a_time == 32
    again = Peaks(config, layout)
    assert again(2, False) < again(4, False) and again(4, True) < again(4, False)


def _agreed(ranks: Ranks, config: TrainConfig, memories: list[int]) -> list[Any]:
    """The choice of ranks whose devices have these bytes, or the error."""
    layout = Layout.from_config(config, ranks.world_size)
    found = choose(config, layout, memories[ranks.rank], _peak)
    own = found.sequences
    agreed = auto.agree((memories[ranks.rank], found), ranks)
    assert agreed is not None
    error = ConfigError("nothing fits") if ranks.rank == 1 else found
    try:
        auto.agree((ranks.world_size - ranks.rank, error), ranks)
    except ConfigError as raised:
        return [own, agreed.sequences, str(raised)]
    return [own, agreed.sequences, "no error"]


def test_the_smallest_device_decides_for_all_ranks(tmp_path: Path) -> None:
    config = _config(tmp_path)
    found = run_distributed(_agreed, 2, config, [10**6, 2000], timeout=120)
    assert found == [[32, 8, "nothing fits"], [8, 8, "nothing fits"]]


def test_available_memory_is_within_the_containers_limit(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 800 kB\n")
    assert available_memory(tmp_path) == 800 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    job = tmp_path / "sys/fs/cgroup/job"
    (job / "step").mkdir(parents=True)
    (job / "step/memory.max").write_text("max\n")
    (job / "memory.max").write_text("500000\n")
    (job / "memory.current").write_text("300000\n")
    (job / "memory.stat").write_text("anon 1\ninactive_file 40000\n")
    assert available_memory(tmp_path) == 500_000 - 300_000 + 40_000
    older = tmp_path / "sys/fs/cgroup/memory"
    older.mkdir()
    (older / "memory.limit_in_bytes").write_text("90000\n")
    (older / "memory.usage_in_bytes").write_text("20000\n")
    (older / "memory.stat").write_text("total_inactive_file 5\n")
    assert available_memory(tmp_path) == 70_005


def test_ranks_of_a_machine_share_its_memory() -> None:
    assert ranks_on_node(8, {"LOCAL_WORLD_SIZE": "4"}) == 4
    assert ranks_on_node(8, {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}) == 2
    assert ranks_on_node(8, {}) == 8
