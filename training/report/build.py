"""Collect a run, write `report.json` and `report.html` into its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.files import read_json, replacing, write_json
from training.report.collect import Run, collect, read_candidates
from training.report.findings import findings
from training.report.page import is_report, render
from training.report.settings import code_version, num_parameters, seconds_by_stage
from training.report.verifier import Case, Ranking, cases, rank

_PAGE, _JSON = "report.html", "report.json"


def build_report(folder: Path) -> Path:
    """Write `report.json` and `report.html` into a recipe's run folder; return the page's path.

    Whatever the run lacks (a verifier, evaluations in training, stored candidates) is
    left out. The same files give the same bytes.

    Raises:
        FileNotFoundError: the folder is not there or holds no result of any stage.
        FileExistsError: one of the two files is there and is not a report's.
        ValueError: a file of a stage is malformed.
    """
    refuse_others(folder)
    run = collect(folder)
    rankings: dict[str, Ranking] = {}
    chosen: dict[str, Sequence[Case]] = {}
    for benchmark in run.benchmarks:
        # One benchmark's candidates at a time: they are the bulk of a run.
        candidates = read_candidates(run, benchmark.name)
        ranking = rank(candidates)
        if ranking is not None:
            rankings[benchmark.name] = ranking
        chosen[benchmark.name] = cases(candidates)
    seconds = seconds_by_stage(run)
    write_json(folder / _JSON, _summary(run, rankings, seconds))
    page = folder / _PAGE
    with replacing(page) as temporary:
        temporary.write_text(render(run, rankings, chosen, seconds), "utf-8")
    return page


def refuse_others(folder: Path) -> None:
    """Refuse to write over files that no report wrote.

    Raises:
        FileExistsError: names the file.
    """
    page, summary = folder / _PAGE, folder / _JSON
    others: list[Path] = []
    if page.exists() and not (page.is_file() and is_report(page.read_text("utf-8", "replace"))):
        others.append(page)
    if summary.exists() and not (summary.is_file() and _is_summary(summary)):
        others.append(summary)
    if others:
        raise FileExistsError(
            f"{others[0]} is there and no report wrote it: move it away, or name another folder"
        )


def _is_summary(path: Path) -> bool:
    try:
        content = read_json(path)
    except ValueError:
        return False
    return isinstance(content, dict) and {"benchmarks", "findings", "run"} <= content.keys()


def _summary(
    run: Run, rankings: Mapping[str, Ranking], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The evaluation's benchmarks as they stand, and beside them what the page adds."""
    settings: Mapping[str, Any] = run.config.get("run") or {}
    parameters = {
        name: size
        for name in ("generator", "verifier")
        if (size := num_parameters((run.config.get(name) or {}).get("model") or {})) is not None
    }
    return {
        "benchmarks": dict(run.evaluation),
        "findings": {
            benchmark.name: [finding.text for finding in findings(benchmark)]
            for benchmark in run.benchmarks
        },
        "verifier": {
            name: {
                "auc": ranking.pooled_auc,
                "auc_within_questions": ranking.within_auc,
                "num_right": len(ranking.right),
                "num_not_right": len(ranking.other),
            }
            for name, ranking in rankings.items()
        },
        "run": {
            "name": settings.get("name") or run.folder.name,
            "seed": settings.get("seed"),
            "seconds": dict(seconds),
            "parameters": parameters,
            "steps": {curve.name: curve.num_steps for curve in run.curves},
            "tokens": {curve.name: curve.tokens[-1] for curve in run.curves if curve.counts_tokens},
            "final_loss": {curve.name: curve.losses[-1] for curve in run.curves},
            "data": {stage: dict(run.facts(stage)) for stage in run.manifests},
            "candidates": [
                {"generator": s.generator, "temperature": s.temperature, **s.counts}
                for s in run.sampled
            ],
            "code": code_version(run),
        },
    }
