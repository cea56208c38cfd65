"""What `launch/plan.py` says before a run is what real ranks hold and send, to the byte."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from parallel.layout import Layout
from parallel.planning import zero
from parallel.planning.plan import Plan, StagePlan, make_plan
from tests import small
from tests.distributed.plan_measured import measure_all
from tests.ranks import run_distributed
from training.config import TrainConfig

pytestmark = pytest.mark.slow

NUM_RANKS = 4

# Odd sizes: flat tensors are padded to multiples of the ranks.
MODEL = {"num_layers": 4, "vocab_size": 510}
# fc1 and fc2 hold 131,072 elements a rank: more than ZeRO-3 leaves whole (100,000).
WIDE = {"num_layers": 3, "hidden_size": 256, "ffn_size": 1024, "vocab_size": 510}
# So small that weights are gathered, released and gathered again within a step.
TIGHT = {
    "stage3_param_persistence_threshold": 500,
    "stage3_max_reuse_distance": 3_000,
    "stage3_prefetch_bucket_size": 1_000,
}
TIGHT_LIMITS = {"persistence": 500, "reuse": 3_000, "prefetch": 1_000}
VERIFIER_DATA = {"sources": [{"kind": "candidates", "path": "candidates"}]}

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "t2 p2 z1 fp32": {"parallel": {"tensor": 2, "pipeline": 2}},
    "p2 d2 z1 bf16 verifier": {
        "parallel": {"pipeline": 2},
        "training": {"precision": "bf16"},
        "model": {"head": "verifier"},
        "data": VERIFIER_DATA,
    },
    "d4 z1 bf16": {"training": {"precision": "bf16"}},
    "d4 z2 bf16": {"training": {"precision": "bf16"}, "parallel": {"zero_stage": 2}},
    "d4 z1 bf16 reduced": {
        "training": {"precision": "bf16", "micro_batch_sequences": 4},
        "parallel": {"reduce_dtype": "bf16"},
    },
    "d4 z2 bf16 reduced": {
        "training": {"precision": "bf16", "micro_batch_sequences": 4},
        "parallel": {"reduce_dtype": "bf16", "zero_stage": 2},
    },
    "t2 sequence d2 z2 fp32": {
        "parallel": {"tensor": 2, "sequence_parallel": True, "zero_stage": 2}
    },
    "d4 z0 bf16": {"training": {"precision": "bf16"}, "parallel": {"zero_stage": 0}},
    # In processes of their own: ZeRO-3 puts its own product in place of torch's for good, and
    # would in turn go by the autocast that ZeRO-0 has switched on for good.
    "t2 d2 z3 bf16": {
        "parallel": {"tensor": 2, "zero_stage": 3},
        "training": {"precision": "bf16"},
        "model": WIDE,
    },
    "t2 d2 z3 fp32 checkpointed, tight": {
        "parallel": {"tensor": 2, "zero_stage": 3},
        "model": {"activation_checkpointing": True},
    },
}


def _config(folder: Path, name: str) -> TrainConfig:
    changes = CASES[name]
    training = {
        "global_batch_sequences": 16,
        "micro_batch_sequences": 2,
        **changes.get("training", {}),
    }
    model = {**MODEL, **changes.get("model", {})}
    return small.config(folder, **{**changes, "training": training, "model": model})


def _measure(folder: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    cases = [(_config(folder, name), TIGHT if "tight" in name else {}) for name in names]
    by_rank = run_distributed(measure_all, NUM_RANKS, cases, timeout=400)
    return {name: list(found) for name, *found in zip(names, *by_rank, strict=True)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Of every case what each of four real ranks held and sent."""
    found: dict[str, list[dict[str, Any]]] = {}
    for apart in (False, True):
        names = [name for name in CASES if ("z3" in name) == apart]
        found |= _measure(tmp_path_factory.mktemp("measured"), names)
    return found


def _exchanged(stage: StagePlan) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for transfer in stage.transfers:
        scope = "tensor" if transfer.purpose == "parts of tensors" else "data"
        scope = "pipeline" if transfer.operation == "send" else scope
        totals[f"{scope} {transfer.operation}"] += transfer.num_bytes
    return dict(totals)


def _planned(plan: Plan) -> dict[str, Any]:
    stage = plan.mine
    return {
        "weights_bytes": stage.weights_bytes,
        "gathered_bytes": stage.gathered_bytes,
        "gradients_bytes": stage.gradients_bytes,
        "optimizer_bytes": stage.optimizer_bytes,
        "bucket_bytes": stage.bucket_bytes,
        "pipeline_bytes": stage.pipeline_bytes,
        "in_flight": stage.num_in_flight if plan.layout.pipeline > 1 else 0,
        "saved_bytes_of_all_micro_batches": (
            (stage.activations.body_bytes + stage.activations.head_bytes) * plan.num_micro_batches
        ),
        "num_micro_batches": plan.num_micro_batches,
        "exchanged": _exchanged(stage),
    }


@pytest.mark.parametrize("name", CASES)
def test_every_rank_holds_and_sends_what_was_planned(
    measured: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    if "tight" in name:
        tight = functools.partial(zero.Limits, **TIGHT_LIMITS)
        monkeypatch.setattr(zero, "Limits", tight)
    config = _config(tmp_path, name)
    layout = Layout.from_config(config, NUM_RANKS)
    for rank, found in enumerate(measured[name]):
        planned = _planned(make_plan(config, layout, rank=rank))
        absent = {kind: 0 for kind in planned if kind not in found}
        assert planned == {**absent, **found}, f"rank {rank}"
