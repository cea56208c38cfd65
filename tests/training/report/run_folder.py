"""A recipe's run folder with made-up but plausible results, as its stages leave it."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from training import manifest
from training.data import candidates
from training.files import write_json
from training.records import Candidate, Verdict

NUM_CANDIDATES = 16
PROGRAM = """    boxes = {boxes}
    per_box = {per_box}
    # everything that is not eaten is left
    result = boxes * per_box - {eaten}
    return result"""
QUESTION = (
    "A bakery packs {boxes} boxes of muffins with {per_box} muffins in each box. On the way to "
    "the market {eaten} of them are eaten & never paid for. How many muffins are left to sell?"
)


def write_run(
    folder: Path,
    *,
    verifier: bool = True,
    benchmarks: tuple[str, ...] = ("demo_test", "demo_longer"),
    skill: float = 0.6,
    questions: int = 200,
) -> Path:
    """Write every stage's files; `skill` is how far right programs score above others."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", _config(benchmarks))
    random = numpy.random.default_rng(5)
    _write_prepared(folder)
    _write_metrics(folder / "generator", random, start=6.2, end=0.35, evaluated=benchmarks[:1])
    if verifier:
        _write_metrics(folder / "verifier", random, start=0.69, end=0.31, evaluated=())
    _write_sampled(folder / "candidates")
    write_json(folder / "seconds.json", {"candidates": 141.0, "evaluation": 96.4})
    results: dict[str, Any] = {}
    for position, name in enumerate(benchmarks):
        groups = _groups(random, questions, skill if verifier else None, 0.3 * position)
        path = folder / "evaluation" / f"candidates_{name}.parquet"
        candidates.write(path, [c for group in groups for c in group], labels={})
        results[name] = _results(groups, random, verifier)
    write_json(folder / "evaluation" / "evaluation.json", {"benchmarks": results})
    commit(folder / "evaluation", {"seconds": 90.0})
    return folder


def commit(folder: Path, facts: dict[str, Any]) -> None:
    manifest.commit(folder, stage=folder.name, config={}, inputs={}, outputs=(), facts=facts)


def _config(benchmarks: tuple[str, ...]) -> dict[str, Any]:
    difficulty = {"min_operations": 2, "max_operations": 4}
    difficulty |= {"min_distractors": 0, "max_distractors": 1}
    model = {"hidden_size": 192, "num_layers": 6, "num_heads": 6, "ffn_size": 768}
    model |= {"vocab_size": 1024, "initial_weights": ""}
    training = {"max_steps": 900, "global_batch_sequences": 32, "precision": "fp32"}
    optimizer = {"learning_rate": 0.002, "warmup_steps": 50, "decay": "cosine"}
    source = {"kind": "problems", "num_examples": 60000, "difficulty": difficulty}
    source |= {"misread_fraction": 0.25}
    shared = {
        "training": training,
        "optimizer": optimizer,
        "parallel": {"zero_stage": 1},
        "data": {"sequence_length": 512, "sources": [source]},
    }
    return {
        "run": {"folder": "runs/demo", "name": "demo", "seed": 1},
        "num_ranks": 2,
        "generator": {**shared, "model": {**model, "head": "language_model"}},
        "verifier": {**shared, "model": {**model, "head": "verifier"}},
        "sampling": {
            "checkpoints": ["300", "600", "900"],
            "temperatures": [0.5, 0.7],
            "num_candidates": 12,
        },
        "evaluation": {
            "benchmarks": [{"name": name} for name in benchmarks],
            "num_candidates": NUM_CANDIDATES,
            "temperatures": [0.5, 0.7],
        },
    }


def _write_prepared(folder: Path) -> None:
    (folder / "data_generator").mkdir()
    facts: dict[str, Any] = {"examples_read": 60000, "examples_kept": 58231, "rows": 15873}
    facts |= {"tokens": 8104233, "padding_fraction": 0.0071, "seconds": 31.8}
    facts["dropped"] = {"duplicate_question": 1502, "too_long": 211, "benchmark_overlap": 56}
    facts["dropped"]["program_fails"] = 0
    commit(folder / "data_generator", facts)
    (folder / "data_verifier").mkdir()
    facts = {"examples_read": 24000, "examples_kept": 17044, "tokens": 2710334, "rows": 5311}
    facts |= {"dropped": {"duplicate_program": 6956}, "seconds": 6.1}
    commit(folder / "data_verifier", facts)


def _write_metrics(
    folder: Path,
    random: numpy.random.Generator,
    *,
    start: float,
    end: float,
    evaluated: tuple[str, ...],
) -> None:
    folder.mkdir()
    lines: list[dict[str, Any]] = []
    for step in range(1, 901):
        loss = end + (start - end) * math.exp(-step / 130) + 0.02 * start * random.normal() / 4
        line = {"step": step, "train/tokens": 16000 * step, "train/loss": loss}
        line |= {"train/learning_rate": 2e-3, "train/grad_norm": 0.8, "time/step": 0.41}
        lines.append({**line, "train/tokens_per_second": 16000 / 0.41})
        if step % 150 == 0:
            for name in evaluated:
                grown = 0.62 * (1 - math.exp(-step / 400))
                lines.append(
                    {
                        "step": step,
                        f"eval/{name}/pass_at_1": grown,
                        f"eval/{name}/majority_at_k": grown + 0.06,
                        f"eval/{name}/pass_at_k": min(1.0, grown + 0.25),
                        f"eval/{name}/seconds": 3.5,
                    }
                )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    # A killed run leaves half a line behind.
    (folder / "metrics.jsonl").write_text(text + '{"step": 901, "train/lo')


def _write_sampled(folder: Path) -> None:
    folder.mkdir()
    by_generator: dict[str, dict[str, dict[str, int]]] = {}
    for step, right in ((300, 310), (600, 505), (900, 597)):
        by_generator[f"step_{step}"] = {
            "0.5": {"right": right, "wrong": 950 - right, "failed": 50},
            "0.7": {"right": right - 21, "wrong": 940 - right, "failed": 81},
        }
    facts: dict[str, Any] = {"questions": 500, "candidates": 6000, "distinct": 4012}
    facts |= {"right": 2761, "wrong": 2846, "failed": 393, "by_generator": by_generator}
    commit(folder, {**facts, "seconds": 140.0})


def _groups(
    random: numpy.random.Generator, questions: int, skill: float | None, harder: float
) -> list[list[Candidate]]:
    groups: list[list[Candidate]] = []
    for number in range(questions):
        numbers = {key: int(random.integers(2, 30)) for key in ("boxes", "per_box", "eaten")}
        gold = numbers["boxes"] * numbers["per_box"] - numbers["eaten"]
        chance = float(random.beta(1.6, 1.3 + 2 * harder))
        group: list[Candidate] = []
        logits: dict[str, float] = {}
        for index in range(NUM_CANDIDATES + 1):
            drawn = random.random()
            verdict: Verdict = "right" if drawn < chance else "failed" if drawn > 0.96 else "wrong"
            slip = int(random.choice([1, 1, 2, 5, 10]))
            numbers_told: dict[str, int | str] = {
                **numbers,
                "eaten": numbers["eaten"] - slip * (verdict == "wrong"),
            }
            if verdict == "failed":
                numbers_told["boxes"] = "muffins"
            program = PROGRAM.format(**numbers_told)
            logit = random.normal() * 1.1 + (skill or 0.0) * (1 if verdict == "right" else -1)
            # A verifier gives equal programs equal scores.
            logit = logits.setdefault(program, logit)
            greedy = index == NUM_CANDIDATES
            group.append(
                Candidate(
                    question_id=f"demo-{number}",
                    question=QUESTION.format(**numbers),
                    program=program,
                    generator="step_900",
                    temperature=0.0 if greedy else (0.5, 0.7)[index % 2],
                    index=0 if greedy else index,
                    status="error" if verdict == "failed" else "ok",
                    value={"right": gold, "wrong": gold + slip}.get(verdict),
                    error="NameError: name 'muffins' is not defined" * (verdict == "failed"),
                    verdict=verdict,
                    num_tokens=44,
                    finished=True,
                    score=None if skill is None or greedy else float(1 / (1 + math.exp(-logit))),
                )
            )
        groups.append(group)
    return groups


def _results(
    groups: list[list[Candidate]], random: numpy.random.Generator, verifier: bool
) -> dict[str, Any]:
    ks = [k for k in (1, 2, 4, 8, 16) if k <= NUM_CANDIDATES]

    def measured(wins: Callable[[list[Candidate]], float]) -> numpy.ndarray[Any, Any]:
        return numpy.array([wins(group) for group in groups], dtype=float)

    def interval(values: numpy.ndarray[Any, Any]) -> dict[str, float]:
        redrawn = values[random.integers(0, len(values), (400, len(values)))].mean(axis=1)
        low, high = numpy.quantile(redrawn, [0.025, 0.975])
        return {"value": float(values.mean()), "low": float(low), "high": float(high)}

    def majority(group: list[Candidate], k: int) -> float:
        votes = Counter(c.value for c in group[:k] if c.value is not None)
        right = {c.value for c in group if c.verdict == "right"}
        return float(bool(votes) and votes.most_common(1)[0][0] in right)

    def passed(group: list[Candidate], k: int) -> float:
        wrong = sum(c.verdict != "right" for c in group[:NUM_CANDIDATES])
        return 1 - math.comb(wrong, k) / math.comb(NUM_CANDIDATES, k)

    def verified(group: list[Candidate], k: int) -> float:
        return float(max(group[:k], key=lambda c: c.score or 0.0).verdict == "right")

    greedy = measured(lambda group: float(group[-1].verdict == "right"))
    pass_at = {k: measured(lambda group, k=k: passed(group, k)) for k in ks}
    majority_at = {k: measured(lambda group, k=k: majority(group, k)) for k in ks}
    results: dict[str, Any] = {
        "num_questions": len(groups),
        "num_candidates": NUM_CANDIDATES,
        "pass_at_1": interval(greedy),
        "pass_at_k": {str(k): interval(values) for k, values in pass_at.items()},
        "majority_at_k": {str(k): interval(values) for k, values in majority_at.items()},
    }
    series = {
        "pass_at_1": greedy,
        "pass_at_n": pass_at[NUM_CANDIDATES],
        "majority_at_n": majority_at[NUM_CANDIDATES],
    }
    if verifier:
        verify_at = {k: measured(lambda group, k=k: verified(group, k)) for k in ks}
        best = verify_at[NUM_CANDIDATES]
        results["verify_at_k"] = {str(k): interval(values) for k, values in verify_at.items()}
        results["verify_minus_pass_at_1"] = interval(best - greedy)
        results["verify_minus_sampled_pass_at_1"] = interval(best - pass_at[1])
        results["verify_minus_majority_at_n"] = interval(best - majority_at[NUM_CANDIDATES])
        series["verify_at_n"] = best
    results["by_operations"] = {
        str(operations): {
            "num_questions": len(greedy[operations - 2 :: 3]),
            **{name: interval(values[operations - 2 :: 3]) for name, values in series.items()},
        }
        for operations in (2, 3, 4)
    }
    return results
