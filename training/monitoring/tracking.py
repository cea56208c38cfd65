"""Weights & Biases, best effort, and the run folder's own record of the same numbers.

    with Tracker.start(config.tracking, folder=config.run.folder, name="generator",
                       job_type="generator", resolved=resolved(config),
                       run_id=state.wandb_run_id, resume_step=state.step,
                       enabled=ranks.is_main) as tracker:
        tracker.log({"train/loss": 2.5}, step=1, tokens=4096)

Numbers go to `metrics.jsonl`, tables to `tables/NAME/step_N.jsonl`, summaries to
`summary.json`, alerts to `alerts.jsonl`; W&B gets a copy. Nothing that W&B does stops or
fails a run: without a login, a network or a server it works offline (`wandb sync` uploads
later), and an outage is waited for in W&B's own process (monitoring/wandb_run.py, unless W&B
is disabled). The API key is read by wandb from the environment or a netrc file; it is in no
setting, message or file of ours.
"""

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

from training.config import TrackingConfig
from training.files import read_json, replacing, write_json
from training.lifecycle.signals import EXIT_STOPPED, Stopped
from training.manifest import code_version
from training.monitoring.metrics_file import MetricsFile
from training.monitoring.names import STEP, TOKENS
from training.monitoring.wandb_run import WandbRun

Mode = Literal["auto", "online", "offline", "disabled"]

RUN_ID = "wandb_run_id"
LINK = "wandb_link"
"""File with where to look: the run's page, or the folder of its newest offline piece."""
SUMMARY = "summary.json"
ALERTS = "alerts.jsonl"
"""File with what people were alerted to: `time` (Unix seconds), `title`, `text`."""
TABLES = "tables"


class Tracker:
    """What a run records and reports. Made by `start`; calls on ranks but the main do nothing."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        metrics: MetricsFile | None,
        run: WandbRun | None,
        *,
        keeps_alerts: bool = True,
    ) -> None:
        self.run_id = run_id
        self._folder, self._metrics, self._run = folder, metrics, run
        self._keeps_alerts = keeps_alerts

    @classmethod
    def start(
        cls,
        config: TrackingConfig,
        *,
        folder: Path,
        name: str,
        job_type: str,
        resolved: Mapping[str, Any],
        run_id: str | None = None,
        resume_step: int = 0,
        enabled: bool = True,
        alerts_only: bool = False,
    ) -> Self:
        """Open the records, and W&B unless it is disabled.

        Args:
            config: The `tracking` section. The quieter of its mode and the environment's
                WANDB_MODE counts.
            folder: The run folder.
            name: What W&B shows the run as.
            job_type: The stage: generator, verifier, sample, evaluate.
            resolved: The whole config; goes to W&B with the code's version.
            run_id: W&B id from the train state, to resume that run; empty: the one in
                `folder/wandb_run_id`, or a new one.
            resume_step: The step that is resumed from. What an earlier attempt logged beyond
                it is dropped from metrics.jsonl; 0 starts it afresh.
            enabled: Whether this rank speaks for the run.
            alerts_only: One of several jobs that write to the run at the same time: its alerts
                are kept in the folder, and nothing else is.
        """
        if alerts_only or not enabled:
            return cls(folder, run_id or "", None, None, keeps_alerts=enabled)
        run_id = _keep_run_id(folder, run_id)
        metrics = MetricsFile(folder, resume_step=resume_step)
        mode = _quieter(config.mode, os.environ)
        if mode == "disabled":
            return cls(folder, run_id, metrics, None)
        code = code_version()
        run = WandbRun(
            folder,
            settings={"git_commit": code["git"].removesuffix("+changes")},
            resume_step=resume_step,
            id=run_id,
            project=config.project,
            entity=config.entity or None,
            name=name,
            group=config.group or name,
            job_type=job_type,
            tags=list(config.tags),
            config={**resolved, "code": code},
        )
        run.open(mode)
        (folder / LINK).write_text(run.link + "\n", encoding="utf-8")
        return cls(folder, run_id, metrics, run)

    @property
    def link(self) -> str:
        """Where to look: the run's page, its offline folder, or the run folder."""
        return (self._run and self._run.link) or str(self._folder)

    def log(self, metrics: Mapping[str, float | int], *, step: int, tokens: int) -> None:
        """Record numbers of a step. Steps must not go down; a step may be logged in parts."""
        if self._metrics is None:
            return
        line = {STEP: step, **metrics, TOKENS: tokens}
        self._metrics.append(line)
        if self._run is not None:
            self._run.log(line)

    def table(
        self,
        name: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        step: int,
        tokens: int,
    ) -> None:
        """Record a table of plain values (text, numbers, None), such as evaluation samples.

        While the server is away this waits about 20 seconds for it, and W&B gets no table.
        """
        if self._metrics is None:
            return
        with replacing(self._folder / TABLES / name / f"step_{step}.jsonl") as temporary:
            lines = [json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows]
            temporary.write_text("".join(lines), encoding="utf-8")
        if self._run is not None:
            self._run.table(name, columns, rows, {STEP: step, TOKENS: tokens})

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """Record final values of the run: `summary.json`, and W&B's summary."""
        if self._metrics is None:
            return
        path = self._folder / SUMMARY
        write_json(path, {**(read_json(path) if path.is_file() else {}), **values})
        if self._run is not None:
            self._run.keep(lambda run: run.summary.update(dict(values)))

    def alert(self, title: str, text: str) -> None:
        """Send an alert through W&B, by mail or chat as set up there, and to `alerts.jsonl`."""
        if not self._keeps_alerts:
            return
        line = json.dumps({"time": round(time.time(), 1), "title": title, "text": text})
        # A full disk may be what it is about.
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / ALERTS).open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        if self._run is not None:
            self._run.keep(lambda run: run.alert(title[:63], text, level="ERROR"))

    def mark_preempting(self) -> None:
        """Mark the W&B run as preempted, to be resumed; then `finish` with a non-zero code."""
        if self._run is not None:
            self._run.keep(lambda run: run.mark_preempting())

    def sync(self) -> None:
        """Flush metrics.jsonl to disk: call it before a checkpoint is committed."""
        if self._metrics is not None:
            self._metrics.sync()

    def finish(self, exit_code: int = 0) -> None:
        """Close the records and W&B; leaves no process behind. Further calls do nothing."""
        metrics, run, self._metrics, self._run = self._metrics, self._run, None, None
        if metrics is not None:
            metrics.close()
        if run is not None:
            run.close(exit_code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish as the block ended: `Stopped` means preempted; an error raises an alert."""
        if isinstance(error, Stopped):
            self.mark_preempting()
            return self.finish(EXIT_STOPPED)
        if isinstance(error, Exception):
            self.alert(f"the run failed: {type(error).__name__}", str(error))
        self.finish(0 if error is None else 1)


def _quieter(mode: Mode, environment: Mapping[str, str]) -> Mode:
    """The quieter of a config's mode and the environment's; `auto` leaves it to the environment."""
    requested = environment.get("WANDB_MODE", "").lower()
    if environment.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        requested = "disabled"
    if "disabled" in (mode, requested):
        return "disabled"
    if mode == "offline" or requested in ("offline", "dryrun"):
        return "offline"
    return mode


def _keep_run_id(folder: Path, run_id: str | None) -> str:
    """The run's id, kept in its folder from its first moment.

    A run that dies before its first checkpoint has no train state, and is still the same
    run when it is started again.
    """
    path = folder / RUN_ID
    kept = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    chosen = run_id or kept or secrets.token_hex(6)
    if chosen != kept:
        with replacing(path) as temporary:
            temporary.write_text(chosen + "\n", encoding="utf-8")
    return chosen
