"""The layouts that are compared, and how: 10 steps of a toy model on the same rows.

Every layout trains the same 8 rows a step from the same seed, so that its losses and
gradient norms can be compared step by step with one rank's.
"""

import contextlib
import io
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from checkpoints import universal
from parallel.ranks import Ranks
from tests import small
from tests.ranks import run_distributed
from training.config import TrainConfig, resolved
from training.data import candidates
from training.monitoring import console
from training.monitoring.metrics_file import read_lines
from training.records import Candidate
from training.stages.runs import train as training

MODEL = {**small.MODEL, "num_layers": 4, "num_heads": 4}
STEPS = 10
EVALUATION = {
    "every_steps": STEPS,
    "benchmarks": [{"name": "problems", "kind": "problems", "num_questions": 3}],
    "num_candidates": 2,
    "temperatures": [0.7],
    "max_new_tokens": 12,
}
NUMBERS = ("train/loss", "train/grad_norm")
TOLERANCES = {"fp32": (1e-5, 1e-5), "bf16": (2e-2, 5e-2)}
"""Relative, of losses and of gradient norms. fp32: sums in another order, some ten times what is
seen. bf16 keeps 8 bits, which shows most in the norms of the last steps, small differences of
larger numbers: one rank's are 1e-2 from fp32's."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layout on a number of ranks."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    zero: int = 1
    sequence: bool = False
    recompute: bool = False
    """Activation checkpointing."""
    compiled: bool = False
    reduced: bool = False
    """Gradients summed in bf16."""

    @property
    def num_ranks(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def name(self) -> str:
        degrees = {"t": self.tensor, "p": self.pipeline, "d": self.data}
        parts = [f"{letter}{degree}" for letter, degree in degrees.items() if degree > 1] or ["1"]
        marks = ["s"] * self.sequence + ["c"] * self.recompute
        marks += ["compiled"] * self.compiled + ["reduced"] * self.reduced
        return " ".join([*parts, f"z{self.zero}", *marks])

    def settings(self) -> dict[str, dict[str, Any]]:
        """What this layout changes in a config."""
        return {
            "parallel": {
                "tensor": self.tensor,
                "pipeline": self.pipeline,
                "zero_stage": self.zero,
                "sequence_parallel": self.sequence,
                "reduce_dtype": "bf16" if self.reduced else "fp32",
            },
            "training": {
                # A pipeline needs micro-batches to fill it.
                "micro_batch_sequences": 1 if self.pipeline > 1 else 8 // self.data,
                "compile": self.compiled,
            },
            "model": {"activation_checkpointing": self.recompute},
        }

    def config(self, base: TrainConfig, folder: Path, **sections: Mapping[str, Any]) -> TrainConfig:
        """`base` at this layout in another run folder, with these sections merged over it."""
        tree = resolved(base)
        tree["run"]["folder"] = str(folder)
        for name, section in (*self.settings().items(), *sections.items()):
            tree[name] |= section
        return TrainConfig.model_validate(tree)


ONE = Case(zero=0)
FULL = (
    Case(zero=1),
    Case(tensor=2, zero=0),
    Case(tensor=2, zero=1),
    Case(tensor=4, zero=0),
    Case(pipeline=2),
    Case(pipeline=4),
    Case(tensor=2, pipeline=2),
    Case(data=2, zero=0),
    Case(data=2, zero=1),
    Case(data=2, zero=2),
    Case(data=2, zero=3),
    Case(data=4, zero=1),
    Case(tensor=2, data=2, zero=0),
    Case(tensor=2, data=2, zero=1),
    Case(tensor=2, data=2, zero=2),
    Case(tensor=2, data=2, zero=3),
    Case(pipeline=2, data=2),
    Case(pipeline=2, data=2, recompute=True),
    Case(tensor=2, zero=1, sequence=True),
    Case(tensor=2, data=2, zero=3, sequence=True),
    Case(tensor=2, pipeline=2, sequence=True),
    Case(tensor=4, zero=1, sequence=True, recompute=True),
    Case(tensor=2, pipeline=2, data=2),
)
COMPILED = tuple(replace(case, compiled=True) for case in FULL if case.zero < 3)
"""ZeRO-3 refuses it."""
REDUCED = tuple(
    replace(case, reduced=True) for case in FULL if case.zero in (1, 2) and case.pipeline == 1
)
RESUMES = (
    # Each axis both ways, ZeRO stages both ways, and everything at once.
    (ONE, Case(tensor=2, zero=1)),
    (Case(tensor=2, zero=1), ONE),
    (Case(data=2, zero=1), Case(pipeline=2)),
    (Case(pipeline=2), Case(data=2, zero=1)),
    (Case(data=2, zero=1), Case(data=4, zero=1)),
    (Case(data=4, zero=1), Case(data=2, zero=1)),
    (Case(data=2, zero=0), Case(data=2, zero=3)),
    (Case(data=2, zero=3), Case(data=2, zero=2)),
    (Case(data=2, zero=2), Case(data=2, zero=0)),
    (Case(tensor=2, pipeline=2), Case(data=2, zero=3)),
    (Case(data=2, zero=3), Case(tensor=2, pipeline=2)),
    (Case(tensor=2, data=2, zero=3, sequence=True), Case(tensor=4, zero=1, sequence=True)),
    (Case(tensor=2, pipeline=2), Case(tensor=2, pipeline=2)),
)
"""Saved at, resumed at."""
assert {saved for saved, _ in RESUMES} <= {ONE, *FULL}


def prepared(folder: Path, head: str) -> TrainConfig:
    """A config of a head with its data prepared below `folder`."""
    if head == "language_model":
        return small.prepared(folder, model=MODEL, evaluation=EVALUATION)
    generator = small.prepared(folder / "questions", model=MODEL)
    written = folder / "candidates"
    written.mkdir(parents=True)
    candidates.write(candidates.part_path(written, 0), _candidates(), labels={})
    tokenizer = {"source": str(generator.data.folder / "tokenizer")}
    sources = [{"kind": "candidates", "path": str(written)}]
    return small.prepared(
        folder,
        model={**MODEL, "head": "verifier"},
        data={"tokenizer": tokenizer, "sources": sources},
    )


def _candidates() -> list[Candidate]:
    """Right and wrong programs of some questions."""
    return [
        Candidate(
            question_id=f"q{number}",
            question=f"Ann has {number} plums and buys {index} more. How many has she now?",
            program=f"plums = {number}\nbought = {index}\n"
            + ("result = plums + bought" if index % 2 else "result = plums - bought"),
            generator="toy",
            temperature=0.5,
            index=index,
            status="ok",
            value=float(number + index if index % 2 else number - index),
            error="",
            verdict="right" if index % 2 else "wrong",
            num_tokens=20,
            finished=True,
            score=None,
        )
        for number in range(20, 120)
        for index in range(1, 5)
    ]


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of one head in one precision below a folder."""

    base: TrainConfig
    folder: Path
    precision: str = "fp32"

    def of(self, case: Case) -> Path:
        """The run folder of a layout."""
        return self.folder / case.name.replace(" ", "_")

    def resumed(self, saved: Case, case: Case) -> Path:
        """The run folder of an attempt at one layout after one at another."""
        return self.folder / f"{saved.name}_then_{case.name}".replace(" ", "_")

    def train(self, cases: Iterable[Case]) -> None:
        """Train at these layouts, saving halfway and at the end."""
        train((case, self._config(self.of(case), case)) for case in cases)

    def resume(self, pairs: Sequence[tuple[Case, Case]]) -> str:
        """Resume at the second layout from what a run at the first saved halfway.

        Returns what the main ranks printed.
        """
        configs: list[tuple[Case, TrainConfig]] = []
        for saved, case in pairs:
            folder = self.resumed(saved, case)
            shutil.copytree(self.of(saved), folder)
            shutil.rmtree(folder / "checkpoints" / f"step_{STEPS}")
            (folder / "manifest.json").unlink()
            configs.append((case, self._config(folder, case)))
        return train(configs)

    def differences(self, case: Case, reference: "Runs") -> list[float]:
        """Of losses and gradient norms, against one rank's in `reference`."""
        expected = reference.of(ONE)
        return [
            difference(numbers(self.of(case), name), numbers(expected, name)) for name in NUMBERS
        ]

    def within(self, case: Case, reference: "Runs") -> bool:
        """Whether both are within this precision's tolerances."""
        found = self.differences(case, reference)
        return all(a <= b for a, b in zip(found, TOLERANCES[self.precision], strict=True))

    def resumed_differences(self, saved: Case, case: Case) -> list[float]:
        """Of losses, gradient norms and moments, against the uninterrupted run."""
        found, expected = self.resumed(saved, case), self.of(saved)
        curves = [difference(numbers(found, name), numbers(expected, name)) for name in NUMBERS]
        return [*curves, moments_difference(found, expected)]

    def samples(self, case: Case) -> str:
        """What the evaluation of the last step wrote, on as many ranks as there are."""
        (table,) = (self.of(case) / "tables").rglob(f"step_{STEPS}.jsonl")
        return table.read_text(encoding="utf-8")

    def _config(self, folder: Path, case: Case) -> TrainConfig:
        return case.config(self.base, folder, training={"precision": self.precision})


def train(runs: Iterable[tuple[Case, TrainConfig]]) -> str:
    """Train these configs, those of one number of ranks on the same processes.

    Starting ranks takes longer than a toy run. Returns what the main ranks printed.
    """
    printed = ""
    by_ranks: defaultdict[int, list[TrainConfig]] = defaultdict(list)
    for case, config in runs:
        by_ranks[case.num_ranks].append(config)
    for num_ranks, configs in by_ranks.items():
        timeout = 60 + 60 * len(configs)
        printed += run_distributed(_train_all, num_ranks, configs, timeout=timeout)[0]
    return printed


def _train_all(ranks: Ranks, configs: Sequence[TrainConfig]) -> str:
    """Train one after the other; returns what this rank printed."""
    console.set_up(ranks)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for config in configs:
            training.train(config, ranks)
    return printed.getvalue()


def numbers(folder: Path, name: str) -> list[float]:
    """One metric of a run, step by step."""
    return [float(line[name]) for line in read_lines(folder) if name in line]


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference between two curves."""
    assert len(found) == len(expected) == STEPS, (len(found), len(expected))
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def moments_difference(found: Path, expected: Path) -> float:
    """The largest difference between the last checkpoints' moments, by each tensor's norm."""
    states = Path("checkpoints") / f"step_{STEPS}" / universal.FOLDER / "zero"
    names = sorted(path.name for path in (expected / states).iterdir())
    assert names == sorted(path.name for path in (found / states).iterdir())
    worst = 0.0
    for name in names:
        if name.endswith("key.bias"):
            continue  # moves a query's logits all alike: its gradient is rounding and nothing else
        for state in ("exp_avg", "exp_avg_sq"):
            ours, theirs = (
                torch.load(run / states / name / f"{state}.pt", weights_only=True)["param"]
                for run in (found, expected)
            )
            worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    return worst
