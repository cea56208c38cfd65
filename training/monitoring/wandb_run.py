"""One run in W&B, which never raises and outlives wandb's own process.

    run = WandbRun(folder, settings={}, id="a1b2", project="tinygsm")
    run.open("auto")                     # online; or offline, and says why
    run.log({"step": 1, "train/loss": 2.5})
    run.close(exit_code=0)

The one module that imports wandb, and not before a run is opened: a run without W&B needs
none, and one whose wandb cannot be imported continues without.
"""

import logging
import netrc
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import torch

from training.monitoring.metrics_file import Line, read_lines
from training.monitoring.names import STEP, TOKENS

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import wandb

_Action = Callable[["wandb.Run"], Any]

_HOSTED = "api.forge.coreweave.com"
_INIT_SECONDS = 30.0
"""How long a run's start may wait for the server before it continues offline."""
_FINISH_SECONDS = 120.0
"""How long a run's end may wait for uploads; the rest stays in the run folder."""
_NUM_FAILURES = 3
"""How often wandb's own process is started again."""


class WandbRun:
    """One W&B run that never raises, opened again when wandb's own process dies.

    Slurm sends its SIGTERM to every process of a job, and wandb's does not survive it.

    Args:
        folder: The run folder.
        settings: wandb's settings beside ours.
        resume_step: The step that this attempt resumes from.
        arguments: Of `wandb.init`.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, Any], resume_step: int = 0, **arguments: Any
    ) -> None:
        self._folder, self._settings, self._arguments = folder, settings, arguments
        self._resume_step = resume_step
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
        """Open online if that is requested and possible, else offline with one warning."""
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
                _warn(f"W&B is offline: {reason}. Upload later: wandb sync {pieces}")
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
            disable_git=True,  # we set the commit: the working folder may be any
            disable_code=True,
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
            x_transaction_log_flush_interval=1.0,  # what a kill can take from an offline run
            x_disable_stats=not torch.cuda.is_available(),
            x_sync_dir_suffix=secrets.token_hex(2),  # two attempts within one second
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
        # Not run.step: it is 0 until wandb's process has taken notice of the resumed run.
        self._run, self._mode, self._next_step = run, mode, run.starting_step
        if mode == "online":
            # What an earlier attempt logged and W&B never got: an outage, a kill.
            for line in read_lines(self._folder):
                self._log(run, line)
        for action in self._kept:
            action(run)

    def log(self, line: Line) -> None:
        """Send numbers of one step."""
        self.call(lambda run: self._log(run, self._late(line)))

    def table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], line: Line
    ) -> None:
        """Send a table at a step."""

        def send(run: "wandb.Run") -> None:
            import wandb

            data: list[Any] = [list(row) for row in rows]
            table = wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
            self._log(run, {**self._late(line), name: table})

        self.call(send)

    def _late(self, line: Line) -> Line:
        """What this attempt adds to the step it resumes from: W&B has closed that one.

        It is the evaluation that an earlier attempt did not finish.
        """
        if line[STEP] != self._resume_step:
            return line
        return {**line, STEP: max(line[STEP], self._next_step)}

    def _log(self, run: "wandb.Run", line: Line) -> None:
        """W&B refuses steps below the ones it has; a resumed run repeats them."""
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
                    return _warn(f"W&B did not take a value: {_reason(error)}")
                mode, self._run = self._mode, None
                self._num_failures += 1
                if self._num_failures > _NUM_FAILURES:
                    return self._give_up(error)
            _teardown()
            self.open(mode)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        _teardown()
        _warn(f"W&B does not work ({_reason(error)}); metrics are in {self._folder}")

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
    """Whether a call failed because nothing listens on wandb's socket any more."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return isinstance(error, (ConnectionError, HandleAbandonedError, MailboxClosedError))


def _reason(error: Exception) -> str:
    """An error in one line, without the key should wandb ever quote it."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "(key)") if key else text


def _warn(text: str) -> None:
    """Log what happens to the run's tracking."""
    logger.warning(f"tracking: {text}")
