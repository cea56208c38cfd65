"""Layouts as arithmetic: who sits where, and which blocks a pipeline stage holds."""

from itertools import product
from pathlib import Path

import pytest

from parallel.layout import Layout, Place, stage_blocks
from parallel.planning import auto
from tests import small
from training.config import ConfigError, ModelConfig

PAPER = ModelConfig()
SMALL = ModelConfig(hidden_size=768, num_layers=12, num_heads=12, ffn_size=3072)


def test_every_place_is_taken_once_and_tensor_parallel_ranks_are_adjacent() -> None:
    layout = Layout(tensor=2, pipeline=3, data=4)
    places = [layout.place(rank) for rank in range(layout.world_size)]
    assert places[:3] == [
        Place(tensor=0, data=0, stage=0),
        Place(tensor=1, data=0, stage=0),
        Place(tensor=0, data=1, stage=0),
    ]
    wanted = {Place(tensor=t, data=d, stage=s) for t, d, s in product(range(2), range(4), range(3))}
    assert len(places) == 24 and set(places) == wanted
    assert [place.stage for place in places] == sorted(place.stage for place in places)


@pytest.mark.parametrize("model", [PAPER, SMALL, ModelConfig(head="verifier")])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4, 6, 12])
def test_stages_hold_all_blocks_in_order(model: ModelConfig, num_stages: int) -> None:
    stages = stage_blocks(model, num_stages)
    assert [block for stage in stages for block in stage] == list(range(model.num_layers))
    assert len(stages) == num_stages and all(stages)


def test_the_head_weighs_and_the_embedding_does_not() -> None:
    # The head is as heavy as 2.1 blocks of the 1.3B shape, as 5.5 of the 125M shape.
    assert [len(stage) for stage in stage_blocks(PAPER, 2)] == [13, 11]
    assert [len(stage) for stage in stage_blocks(PAPER, 4)] == [7, 7, 6, 4]
    assert [len(stage) for stage in stage_blocks(SMALL, 4)] == [4, 4, 3, 1]
    assert [len(stage) for stage in stage_blocks(ModelConfig(head="verifier"), 4)] == [6] * 4


@pytest.mark.parametrize("model", [PAPER, SMALL])
@pytest.mark.parametrize("num_stages", [2, 3, 4, 6])
def test_no_other_cut_has_a_lighter_heaviest_stage(model: ModelConfig, num_stages: int) -> None:
    block = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.ffn_size
    head = model.hidden_size * model.vocab_size / block

    def heaviest(sizes: list[int]) -> float:
        return max([*sizes[:-1], sizes[-1] + head])

    found = heaviest([len(stage) for stage in stage_blocks(model, num_stages)])
    others = model.num_layers, num_stages - 1
    best = min(
        heaviest([-(-(others[0] - last) // others[1]), last])
        for last in range(1, model.num_layers - num_stages + 2)
    )
    assert found == best


def test_sums_in_bf16_take_one_micro_batch_and_say_its_size(tmp_path: Path) -> None:
    def layout(size: int | str, num_ranks: int) -> Layout:
        batch = {"global_batch_sequences": 8, "micro_batch_sequences": size, "precision": "bf16"}
        parallel = {"reduce_dtype": "bf16"}
        return Layout.from_config(
            small.config(tmp_path, training=batch, parallel=parallel), num_ranks
        )

    assert layout(4, 2).data == 2 and layout("auto", 2).data == 2
    with pytest.raises(ConfigError, match="2 micro-batches.*micro_batch_sequences = 8"):
        layout(4, 1)


def test_auto_with_sums_in_bf16_has_one_size_to_choose_from(tmp_path: Path) -> None:
    batch = {"global_batch_sequences": 8, "micro_batch_sequences": "auto", "precision": "bf16"}
    for dtype, expected in (("bf16", [4]), ("fp32", [1, 2, 4])):
        config = small.config(tmp_path, training=batch, parallel={"reduce_dtype": dtype})
        assert auto.sizes(config, Layout.from_config(config, 2)) == expected
