"""Plans of layouts: sums, refusals, and what can be said without running anything real."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from parallel.layout import Layout
from parallel.planning.communication import sent_bytes
from parallel.planning.plan import Plan, make_plan, sent
from parallel.planning.table import in_short, in_units
from parallel.planning.trace import fake_groups, run_micro_batch, typical_micro_batch
from parallel.planning.zero import Limits, Step, gathers
from tests import small
from tests.ranks import ROOT
from training.config import TrainConfig, resolved

LARGE = ROOT / "configs" / "generator_1b3.toml"
LARGE_PARAMETERS = 1_418_270_720
# Runs the launcher and tells whether torch was imported.
RUN = """
import sys
from launch.plan import main
from launch.arguments import run
sys.argv = ["plan.py", *sys.argv[1:]]
try:
    run(main)
finally:
    print("torch" in sys.modules)
"""


def _plan(config: TrainConfig, world_size: int, rank: int = 0) -> Plan:
    return make_plan(config, Layout.from_config(config, world_size), rank=rank)


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_thousand_ranks_hold_the_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    layout = ["parallel.tensor=8", "parallel.pipeline=4", "--world-size", "1024"]
    done = _launch(str(LARGE), *layout, "--rank", "300", "--json", str(path))
    assert done.returncode == 0, done.stderr
    plan = json.loads(path.read_text())
    assert plan["parameters"] == LARGE_PARAMETERS
    assert f"{LARGE_PARAMETERS:,}" in done.stdout
    assert plan["place"] == {"tensor": 4, "data": 5, "stage": 1}
    assert plan["tensor_ranks"] == list(range(296, 304))
    assert plan["data_ranks"] == list(range(260, 512, 8))
    assert plan["pipeline_ranks"] == [44, 300, 556, 812]
    stages = plan["stages"]
    assert [block for stage in stages for block in stage["blocks"]] == list(range(24))
    multiplying = sum(stage["multiplying_parameters"] for stage in stages)
    # 24 blocks of 12 x 2048^2, and the head at the 45 % of tokens that are supervised, rounded.
    assert multiplying == 24 * 12 * 2048**2 + round(0.45 * 51_200 * 2_048)
    # Four micro-batches a step, the fewest that auto gives four stages.
    assert plan["bubble"] == 3 / 7
    for stage in stages:
        assert stage["sent_bytes"] == sum(each["sent_bytes"] for each in stage["transfers"])


def test_tensor_exchanges_are_two_a_block(tmp_path: Path) -> None:
    config = small.config(tmp_path, parallel={"tensor": 2})
    with fake_groups(Layout.from_config(config, 2), 0) as groups:
        run = run_micro_batch(config, groups)
    rows, tokens = config.training.sequences_at_a_time, config.data.sequence_length
    hidden = rows * tokens * config.model.hidden_size * 4
    # Per block one forward and one backward; one after the embedding and one before the head.
    expected = 2 * config.model.num_layers + 2
    assert Counter(each.num_bytes for each in run.exchanges)[hidden] == expected
    # What else there is are cross entropies of supervised tokens: maximum, own logit, sum.
    assert len(run.exchanges) == expected + 3


def test_recomputing_blocks_keeps_their_inputs(tmp_path: Path) -> None:
    whole = small.config(tmp_path, model={"num_layers": 4})
    inputs = small.config(tmp_path, model={"num_layers": 4, "activation_checkpointing": True})
    kept, again = (_plan(config, 1).mine.activations for config in (whole, inputs))
    assert again.head_bytes == kept.head_bytes and kept.recomputed_bytes == 0
    rows, tokens = whole.training.sequences_at_a_time, whole.data.sequence_length
    # All blocks share the angles of 8 rotated dims (4 pairs), cosine and sine, and the borders.
    angles = 2 * rows * tokens * 4 * 4
    borders = typical_micro_batch(whole).borders.nbytes
    once = 4 * (again.recomputed_bytes - borders) + borders + angles
    assert kept.body_bytes - again.body_bytes == once
    ids, hidden = rows * tokens * 8, rows * tokens * 32 * 4
    assert again.body_bytes == ids + 4 * hidden
    held = max(again.head_bytes, again.recomputed_bytes) + again.temporary_bytes
    assert again.peak_bytes(3) == 3 * again.body_bytes + held


def test_fewer_micro_batches_are_in_flight_towards_the_end(tmp_path: Path) -> None:
    config = small.config(
        tmp_path,
        model={"num_layers": 4},
        training={"global_batch_sequences": 3, "micro_batch_sequences": 1},
        parallel={"pipeline": 4},
    )
    plan = _plan(config, 4)
    assert [stage.num_in_flight for stage in plan.stages] == [3, 3, 2, 1]
    assert plan.bubble == 3 / 6
    assert [sum(each.operation == "send" for each in stage.transfers) for stage in plan.stages] == [
        1,
        2,
        2,
        1,
    ]


def test_cpus_and_gpus_keep_the_same_of_attention(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {"training": {"precision": "bf16"}}
    on_cpu = _plan(small.config(tmp_path, **changes), 1)
    changes["training"]["device"] = "cuda"
    on_gpu = _plan(small.config(tmp_path, **changes), 1)
    assert on_gpu.on_gpu and not on_cpu.on_gpu
    # Flash attention also keeps the state of a random generator, 16 bytes a block.
    saved = on_gpu.mine.activations.body_bytes - on_cpu.mine.activations.body_bytes
    assert saved == 2 * 16
    assert on_cpu.mine.weights_bytes == on_gpu.mine.weights_bytes


def test_every_precision_and_stage_adds_up(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        for zero_stage in (0, 1, 2, 3):
            if (precision, zero_stage) == ("fp16", 0):
                continue
            config = small.config(
                tmp_path,
                training={"precision": precision, "device": "cuda"},
                parallel={"zero_stage": zero_stage},
            )
            mine = _plan(config, 2).mine
            # Two moments in fp32, and the fp32 weights themselves under ZeRO, shared by two.
            states = 8 * mine.parameters if zero_stage == 0 else 12 * mine.parameters / 2
            assert mine.optimizer_bytes == pytest.approx(states, rel=0.02)
            assert mine.sent_bytes == sum(map(sent, mine.transfers)) > 0
            assert mine.total_bytes > mine.weights_bytes + mine.optimizer_bytes


def test_a_plan_is_of_every_rank_alike(tmp_path: Path) -> None:
    config = small.config(tmp_path, parallel={"tensor": 2, "pipeline": 2})
    plans = [_plan(config, 8, rank) for rank in range(8)]
    for plan in plans:
        own = {
            "tensor": plan.tensor_ranks,
            "data": plan.data_ranks,
            "pipeline": plan.pipeline_ranks,
        }
        assert all(plan.rank in ranks for ranks in own.values())
        assert plan.stages == plans[0].stages
    assert {plan.place.stage for plan in plans} == {0, 1}


def test_zero_3_gathers_again_what_it_let_go_of() -> None:
    sizes = {"a": 10, "b": 10, "c": 10}
    uses = [Step(needed=(name,), released=(name,)) for name in "abccba"]
    near = Limits(persistence=0, reuse=1, prefetch=0)
    assert gathers(uses, sizes, set(), near) == ({"a": 2, "b": 2, "c": 1}, 10)
    far = dataclasses.replace(near, reuse=1000)
    assert gathers(uses, sizes, set(), far) == ({"a": 1, "b": 1, "c": 1}, 30)
    # Each use fetches one ahead: at its second use "c" has fetched "b" and "a" again.
    ahead = dataclasses.replace(near, prefetch=10)
    assert gathers(uses, sizes, set(), ahead) == ({"a": 2, "b": 2, "c": 1}, 30)
    assert gathers(uses, sizes, {"a", "b", "c"}, near) == ({}, 0)


def test_rings() -> None:
    assert sent_bytes("all-reduce", 800, 4) == 1200
    assert sent_bytes("all-gather", 800, 4) == sent_bytes("reduce-scatter", 800, 4) == 600
    assert sent_bytes("send", 800, 2) == 800
    assert sent_bytes("all-reduce", 800, 1) == 0


def test_words() -> None:
    assert in_units(999) == "999 B" and in_units(1536) == "1.5 KiB"
    assert in_units(3 * 2**40) == "3.0 TiB" and in_units(5000 * 2**40) == "5,000.0 TiB"
    assert in_short((3,)) == "3" and in_short((0, 8, 16)) == "0, 8, 16"
    assert in_short(tuple(range(0, 64, 8))) == "0, 8, ... 56 (8 ranks)"


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--world-size", "12", "parallel.tensor=8"], ["8 x 1 = 8", "12 ranks"]),
        (["parallel.tensor=3", "--world-size", "12"], ["parallel.tensor = 3", "32", "51200"]),
        (["parallel.pipeline=5", "--world-size", "10"], ["parallel.pipeline = 5", "24"]),
        (["--world-size", "1024"], ["128", "1 x 1024", "1024"]),
        (
            ["parallel.pipeline=2", "parallel.zero_stage=3", "--world-size", "8"],
            ["pipeline = 2", "zero_stage = 3", "ZeRO-1"],
        ),
        (["--world-size", "8", "--rank", "8"], ["--rank 8", "8 ranks", "0 to 7"]),
        (["--world-size", "0"], ["--world-size 0"]),
        (["--world-size", "1", "--device-gb", "nan"], ["--device-gb nan"]),
    ],
)
def test_what_cannot_be_is_refused_before_torch_is_imported(
    arguments: list[str], numbers: list[str]
) -> None:
    done = _launch(str(LARGE), *arguments)
    assert done.returncode == 2
    assert done.stdout == "False\n"
    assert "Traceback" not in done.stderr
    for number in numbers:
        assert number in done.stderr


def test_a_plan_is_for_the_named_card(tmp_path: Path) -> None:
    config = small.config(
        tmp_path, training={"micro_batch_sequences": "auto", "precision": "bf16", "device": "auto"}
    )
    (tmp_path / "config.json").write_text(json.dumps(resolved(config)))
    arguments = [str(tmp_path / "config.json"), "--world-size", "1"]
    done = _launch(*arguments, "--device-gb", "0.007")
    assert "auto: 4 sequences at a time" in done.stdout and "8 sequences would" in done.stdout
    assert "2 micro-batches per step" in done.stdout
    assert "micro-batch of 8 x 256" in " ".join(_launch(*arguments).stdout.split())


def test_fp16_is_for_gpus(tmp_path: Path) -> None:
    config = small.config(tmp_path, training={"precision": "fp16"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(resolved(config)))
    done = _launch(str(path), "--world-size", "1")
    assert done.returncode == 2 and "needs a GPU" in done.stderr


def test_nothing_of_a_plan_stays_behind(tmp_path: Path) -> None:
    _plan(small.config(tmp_path, parallel={"zero_stage": 3}), 2)
    assert not torch.distributed.is_initialized()
    layer = torch.nn.Linear(2, 2)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value), lambda x: x):
        layer(torch.ones(1, 2, requires_grad=True))
    assert len(kept) == 2  # the input and the weight; ZeRO-3's own product would keep the bias
