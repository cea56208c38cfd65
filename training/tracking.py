"""Weights & Biases, best effort, and the run folder's own record of the same numbers.

    with Tracker.start(config.tracking, folder=config.run.folder, name="generator",
                       group="demo", job_type="generator", resolved=resolved(config),
                       run_id=state.wandb_run_id, resume_step=state.step,
                       enabled=ranks.is_first) as tracker:
        tracker.log({"train/loss": 2.5}, step=1, tokens=4096)

Numbers go to `metrics.jsonl`, tables to `tables/NAME/step_N.jsonl`, summaries to
`summary.json`; W&B gets a copy. Nothing that W&B does stops or fails a run: without a
login, a network or a server it works offline (`wandb sync` uploads later), and an outage
is waited for in W&B's own process. This is the only module that imports wandb, and only
when it is not disabled. The API key is read by wandb from the environment or a netrc
file; it is in no setting, message or file of ours.
"""

import json
import netrc
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import torch
from typing_extensions import Self

from training.config import TrackingConfig
from training.files import read_json, replacing, write_json
from training.manifest import code_version
from training.metrics import STEP, TOKENS
from training.metrics_file import Line, MetricsFile, read_lines

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]
_Action = Callable[["wandb.Run"], Any]

RUN_ID = "wandb_run_id"
LINK = "wandb_link"
"""File with where to look: the run's page, or the folder of its newest offline piece."""
SUMMARY = "summary.json"
TABLES = "tables"

_HOSTED = "api.forge.coreweave.com"
_INIT_SECONDS = 30.0
"""How long a run's start may wait for the server before it goes on offline."""
_FINISH_SECONDS = 120.0
"""How long a run's end may wait for uploads; the rest stays in the run folder."""
_NUM_FAILURES = 3
"""How often wandb's own process is started again."""


class Tracker:
    """What a run tells people. Made by `start`; on ranks but the first every call does nothing."""

    def __init__(
        self, folder: Path, run_id: str, metrics: MetricsFile | None, run: "_WandbRun | None"
    ) -> None:
        self.run_id = run_id
        self._folder, self._metrics, self._run = folder, metrics, run

    @classmethod
    def start(
        cls,
        config: TrackingConfig,
        *,
        folder: Path,
        name: str,
        group: str,
        job_type: str,
        resolved: Mapping[str, Any],
        run_id: str | None = None,
        resume_step: int = 0,
        enabled: bool = True,
    ) -> Self:
        """Open the records, and W&B unless it is disabled.

        Args:
            config: The `tracking` section. The quieter of its mode and the environment's
                WANDB_MODE counts.
            folder: The run folder.
            name: What W&B shows the run as.
            group: The recipe's name: puts its stages together.
            job_type: The stage: generator, verifier, sample, evaluate.
            resolved: The whole config; goes to W&B with the code's version.
            run_id: W&B id from the train state, to go on with that run; empty: the one in
                `folder/wandb_run_id`, or a new one.
            resume_step: The step that is resumed from. What an earlier life logged beyond
                it is dropped from metrics.jsonl; 0 starts it afresh.
            enabled: Whether this rank speaks for the run.
        """
        if not enabled:
            return cls(folder, run_id or "", None, None)
        run_id = _keep_run_id(folder, run_id)
        metrics = MetricsFile(folder, resume_step=resume_step)
        mode = _quieter(config.mode, os.environ)
        if mode == "disabled":
            return cls(folder, run_id, metrics, None)
        code = code_version()
        run = _WandbRun(
            folder,
            settings={"git_commit": code["git"].removesuffix("+changes")},
            id=run_id,
            project=config.project,
            entity=config.entity or None,
            name=name,
            group=group,
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
        """Tell people, by mail or chat as they set W&B up, and on standard error."""
        if self._metrics is None:
            return
        _say(f"{title}: {text}")
        if self._run is not None:
            self._run.call(lambda run: run.alert(title[:63], text, level="ERROR"))

    def mark_preempting(self) -> None:
        """Tell W&B that the run stops to go on later; then `finish` with a non-zero code."""
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(0 if kind is None else 1)


class _WandbRun:
    """One W&B run that never raises, opened again when wandb's own process dies.

    Slurm sends its SIGTERM to every process of a job, and wandb's does not survive it.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, Any], **arguments: Any) -> None:
        self._folder, self._settings, self._arguments = folder, settings, arguments
        self._mode: Literal["online", "offline"] = "offline"
        self._run: wandb.Run | None = None
        self._next_step = 0
        self._num_failures = 0
        self._kept: list[_Action] = []

    @property
    def link(self) -> str:
        """The run's page, or the folder of its offline piece."""
        if self._run is None:
            return ""
        return (self._mode == "online" and self._run.url) or str(self._run.settings.sync_dir)

    def open(self, mode: Literal["auto", "online", "offline"]) -> None:
        """Open online if that is wanted and possible, else offline, and say so once."""
        try:
            try:
                reason = self._why_offline(mode)
                if not reason:
                    return self._init("online")
            except Exception as error:
                reason = _reason(error)
                _teardown()
            self._init("offline")
            if not self._num_failures or mode != "offline":
                pieces = self._folder / "wandb" / "offline-run-*"
                _say(f"W&B is offline: {reason}. Upload later: wandb sync {pieces}")
        except Exception as error:
            self._give_up(error)

    def _why_offline(self, mode: Literal["auto", "online", "offline"]) -> str:
        import wandb

        # A parent's wandb process would end with the parent.
        os.environ.pop("WANDB_SERVICE", None)
        # Set up before anything else: it would print where it found the key.
        shared = wandb.setup(wandb.Settings(silent=True, quiet=True))
        if mode == "offline":
            return "tracking.mode or WANDB_MODE asks for it"
        if not has_login(shared.settings.base_url, os.environ):
            return "no WANDB_API_KEY in the environment and no login in a netrc file"
        return ""

    def _init(self, mode: Literal["online", "offline"]) -> None:
        import wandb

        settings = wandb.Settings(
            **self._settings,
            silent=True,
            quiet=True,
            console="off",  # what is printed is in the job's log; capturing it costs time
            disable_git=True,  # the commit is ours to tell, whatever folder we run in
            disable_code=True,
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
            x_transaction_log_flush_interval=1.0,  # what a kill can take from an offline run
            x_disable_stats=not torch.cuda.is_available(),
            x_sync_dir_suffix=secrets.token_hex(2),  # two lives within one second
        )
        run = wandb.init(
            mode=mode,
            dir=str(self._folder),
            resume="allow",
            allow_val_change=True,
            settings=settings,
            **self._arguments,
        )
        run.define_metric(TOKENS)
        run.define_metric("*", step_metric=TOKENS)
        self._run, self._mode, self._next_step = run, mode, run.step
        if mode == "online":
            # What an earlier life logged and W&B never got: an outage, a kill.
            for line in read_lines(self._folder):
                self._log(run, line)
        for action in self._kept:
            action(run)

    def log(self, line: Line) -> None:
        """Send numbers of one step."""
        self.call(lambda run: self._log(run, line))

    def table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], line: Line
    ) -> None:
        """Send a table at a step."""

        def send(run: "wandb.Run") -> None:
            import wandb

            data: list[Any] = [list(row) for row in rows]
            table = wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
            self._log(run, {**line, name: table})

        self.call(send)

    def _log(self, run: "wandb.Run", line: Line) -> None:
        """W&B refuses steps below the ones it has; a resumed run lives through them again."""
        step = line[STEP]
        if step >= self._next_step:
            # metrics.jsonl spells numbers that JSON has not: "nan".
            numbers = {n: float(v) if isinstance(v, str) else v for n, v in line.items()}
            del numbers[STEP]
            run.log(numbers, step=step)

    def keep(self, action: _Action) -> None:
        """Do something that may be done twice, and again with every new process.

        A dying process takes with it what it had read and not sent, and the first writes
        after its death go nowhere without an error.
        """
        self._kept.append(action)
        self.call(action)

    def call(self, action: _Action) -> None:
        """Do something with the run; if wandb's process is gone, with a new one."""
        while self._run is not None:
            try:
                action(self._run)
                return
            except Exception as error:
                if not _process_is_gone(error):
                    return _say(f"W&B did not take a value: {_reason(error)}")
                mode, self._run = self._mode, None
                self._num_failures += 1
                if self._num_failures > _NUM_FAILURES:
                    return self._give_up(error)
            _teardown()
            self.open(mode)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        _teardown()
        _say(f"W&B does not work ({_reason(error)}); metrics are in {self._folder}")

    def close(self, exit_code: int) -> None:
        """Upload what is left, within bounds, and end W&B's process."""
        self.call(lambda run: run.finish(exit_code=exit_code))
        self._run = None
        _teardown()


def has_login(base_url: str, environment: Mapping[str, str]) -> bool:
    """Whether wandb would find credentials for this server without asking a person."""
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = environment.get("NETRC") or Path("~/.netrc").expanduser()
    try:
        known = netrc.netrc(str(path))
    except (OSError, netrc.NetrcParseError):
        return False
    host = urlsplit(base_url).netloc
    # wandb's hosted service changed its name, and wandb still takes the old one's login.
    return host in known.hosts or (host == _HOSTED and "api.wandb.ai" in known.hosts)


def _quieter(mode: Mode, environment: Mapping[str, str]) -> Mode:
    """The quieter of a config's mode and the environment's; `auto` has no wish of its own."""
    asked = environment.get("WANDB_MODE", "").lower()
    if environment.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        asked = "disabled"
    if "disabled" in (mode, asked):
        return "disabled"
    if mode == "offline" or asked in ("offline", "dryrun"):
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


def _teardown() -> None:
    """End wandb's process, whatever state it is in."""
    import wandb

    # With its process gone the first call fails, and the second clears what is left. It
    # also calls sys.exit when that process ended badly, which is no reason for us to end.
    for _ in range(2):
        try:
            wandb.teardown()
            return
        except (Exception, SystemExit):
            continue


def _process_is_gone(error: Exception) -> bool:
    """Whether a call failed since there is nobody at the other end of wandb's socket."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return isinstance(error, (ConnectionError, HandleAbandonedError, MailboxClosedError))


def _reason(error: Exception) -> str:
    """An error in one line, without the key should wandb ever quote it."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "(key)") if key else text


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr, flush=True)
