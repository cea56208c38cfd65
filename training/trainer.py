"""The training loop, of generators and verifiers alike.

    with StopSignal(ranks) as stop, Trainer(config, ranks, stop) as trainer:
        trainer.run()

A step: take this step's micro-batches and the loss normalizer, summed over all ranks; accumulate
gradients of `sum of losses / loss normalizer`; update; log the step before, whose numbers the
device has computed by now. Then, when due: begin a checkpoint, evaluate. A checkpoint holds all
that the next attempt needs to resume bit-exactly (training/train_state.py).
"""

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from checkpoints import universal
from checkpoints.saver import Saver
from checkpoints.store import CheckpointStore
from parallel.groups import Groups
from parallel.late_values import LateValues
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from training.checkpoint_paths import CHECKPOINTS, step_name
from training.config import TrainConfig, resolved
from training.data.prepared import tokenizer_of
from training.data.step_batches import StepBatches
from training.errors import DataError, TrainingDiverged
from training.evaluation import load
from training.evaluation.benchmark import TABLE_COLUMNS
from training.evaluation.in_training import InTrainingEvaluation
from training.lifecycle.cancellation import Cancellation
from training.lifecycle.divergence import SkippedUpdates, diverged
from training.lifecycle.garbage import GarbageCollection
from training.lifecycle.resume import refuse_checkpoint
from training.lifecycle.signals import Stopped, StopSignal
from training.lifecycle.watchdog import Watchdog
from training.made_step import MadeStep
from training.models.build import blank_values
from training.monitoring import metrics, names
from training.monitoring.metrics_file import has_evaluation
from training.monitoring.progress import Progress
from training.monitoring.tracking import Tracker
from training.schedule import learning_rate
from training.train_state import TrainState

logger = logging.getLogger(__name__)


class Trainer:
    """One attempt of a training run.

    Args:
        config: The whole run.
        ranks: The processes of the run, connected.
        stop: Checked at every step and between the batches of an evaluation.
        auto: What settings that were `auto` became, for the tracker; the config has them already.

    Raises:
        UserError: a setting does not fit the data, the ranks or the checkpoint.
        FileNotFoundError: data or weights that the config names are not there.
    """

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        stop: StopSignal,
        *,
        auto: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._ranks, self._stop, self._auto = config, ranks, stop, auto
        self._device = ranks.device(config.training.device)
        self._layout = Layout.from_config(config, ranks.world_size)
        self._folder = config.run.folder
        with ExitStack() as stack:
            self._groups = Groups.connect(self._layout, ranks)
            stack.callback(self._groups.disconnect)
            self._store = CheckpointStore(
                self._folder / CHECKPOINTS,
                ranks=ranks,
                keep=config.checkpoint.keep_latest,
                keep_steps=config.checkpoint.keep_steps,
            )
            checkpoint = self._store.newest()
            if checkpoint:
                refuse_checkpoint(config, checkpoint)
            self._data = StepBatches(
                config,
                ranks,
                data_rank=self._groups.place.data,
                data_degree=self._layout.data,
                counts=self._groups.counts,
                device=self._device,
            )
            stack.callback(self._data.close)
            self._tokenizer = tokenizer_of(config)
            if config.model.initial_weights and not checkpoint:
                load.verify(config.model.initial_weights, ranks)
            self._engine = parallelize(
                config,
                self._groups,
                self._device,
                # A checkpoint's are read below, once: drawing starting values takes longer.
                value_of=blank_values(config.model) if checkpoint else None,
            )
            stack.callback(self._engine.close)
            self._state = TrainState(layout=asdict(self._layout))
            self._skipped_updates = SkippedUpdates()
            self._saved_step = 0
            self._made: MadeStep | None = None
            if checkpoint:
                self._resume(checkpoint)
            self._goodput = metrics.Goodput.from_state(self._state.goodput)
            self._throughput = metrics.Throughput.from_config(
                config.model, device=self._device, num_devices=ranks.world_size
            )
            self._tracker = self._new_tracker()
            self._state.wandb_run_id = self._tracker.run_id
            self._watchdog = Watchdog(
                ranks, minutes=config.run.watchdog_minutes, alert=self._tracker.alert
            )
            self._evaluation = InTrainingEvaluation(
                config,
                ranks,
                self._tokenizer,
                self._device,
                cancellation=Cancellation(stop, self._watchdog),
            )
            self._garbage = GarbageCollection()
            steps, heartbeat = config.training.max_steps, self._watchdog.heartbeat
            self._bar = Progress(
                "training", total=steps, unit="steps", shown=ranks.is_main, logs_lines=False
            )
            self._saver = Saver(
                config, self._engine, self._store, self._tokenizer, heartbeat=heartbeat
            )
            stack.push(self._tracker)  # last: a run that is refused here raises no alert
            self._stack = stack.pop_all()

    def _new_tracker(self) -> Tracker:
        config = self._config
        return Tracker.start(
            config.tracking,
            folder=self._folder,
            name=config.run.name,
            job_type="verifier" if config.model.head == "verifier" else "generator",
            resolved=resolved(config) | ({"auto": dict(self._auto)} if self._auto else {}),
            run_id=self._state.wandb_run_id or None,
            resume_step=self._state.step,
            enabled=self._ranks.is_main,
        )

    def run(self) -> None:
        """Train to the last step.

        Raises:
            Stopped: a signal came to a rank; there is a checkpoint of the newest step.
            TrainingDiverged: nothing was saved of the step that met it.
        """
        total = self._config.training.max_steps
        with self._watchdog, self._bar:
            self._bar.skip(self._state.step)
            try:
                if self._evaluation_is_missing():
                    self._evaluate()
                timer = metrics.StepTimer()
                while self._state.step < total:
                    before, made = self._made, self._step(timer)
                    self._made = None if made.skipped else made
                    # By now the step before is computed.
                    stopped = self._report(before)
                    self._watchdog.heartbeat()
                    if made.skipped:
                        self._skip(made)
                        if stopped:
                            raise Stopped
                        continue
                    last = made.step == total
                    saves = last or self._is_due(self._config.checkpoint.every_steps)
                    evaluates = self._is_due(self._config.evaluation.every_steps)
                    if saves or evaluates or stopped:
                        self._made = None
                        stopped = self._report(made) or stopped
                    if stopped and not last:
                        raise Stopped
                    if last:
                        self._data.finish()
                    if saves:
                        self._save()
                    if evaluates:
                        self._evaluate()
                    if saves or evaluates:
                        timer.restart()
                    self._garbage.collect_if_due(made.step)
                self._saver.finish()
            except Stopped:
                if self._saved_step != self._state.step:
                    self._save()
                self._saver.finish()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish tracking, which records how the run ended, then close the engine."""
        self._saver.close()
        if isinstance(error, Exception):
            self._store.discard_unfinished()
        self._stack.__exit__(kind, error, trace)

    def _is_due(self, every_steps: int) -> bool:
        return bool(every_steps) and self._state.step % every_steps == 0

    def _evaluation_is_missing(self) -> bool:
        """Whether an earlier attempt ended while it evaluated at this step."""
        step = self._state.step
        if not step or not self._is_due(self._config.evaluation.every_steps):
            return False
        return not self._ranks.on_main(lambda: has_evaluation(self._folder, step))

    def _step(self, timer: metrics.StepTimer) -> MadeStep:
        """One update, without waiting for its numbers."""
        number = self._state.step + 1
        with timer.waiting():
            step = self._data.next_step(is_last=number == self._config.training.max_steps)
        if step.failed:
            self._report(self._made)
            self._data.raise_together()
        if not step.loss_normalizer:
            raise DataError(f"step {number} holds no supervised token")
        self._engine.seed_dropout(self._state.step)
        rate = learning_rate(
            self._state.step,
            max_steps=self._config.training.max_steps,
            optimizer=self._config.optimizer,
        )
        loss = self._engine.train_step(
            step.batches, loss_normalizer=step.loss_normalizer, learning_rate=rate
        )
        norm = self._engine.grad_norm
        numbers = LateValues([loss, math.nan if norm is None else norm])
        seconds = timer.lap()
        if not self._engine.skipped:
            self._skipped_updates.end()
            self._state.step = number
            self._state.tokens += step.counts.tokens
            self._goodput.count(seconds.step)
        return MadeStep(
            step=number,
            skipped=self._engine.skipped,
            tokens=self._state.tokens,
            numbers=numbers,
            loss_normalizer=step.loss_normalizer,
            metrics={
                names.LEARNING_RATE: rate,
                **self._throughput.metrics(step.counts, seconds),
                **self._data.metrics(),
                names.SKIPPED_UPDATES: self._state.skipped_updates,
            },
        )

    def _report(self, made: MadeStep | None) -> bool:
        """Log a step, if there is one; whether a signal came to any rank (all ranks call it).

        Raises:
            TrainingDiverged: its loss is not finite.
            NoSpace, NotWritten: a checkpoint could not be written.
        """
        loss, norm = made.numbers.read() if made else (0.0, math.nan)
        loss, stop, failed = self._ranks.sum(
            [
                loss if self._groups.computes_loss else 0.0,
                int(self._stop.requested),
                int(self._saver.failed),
            ]
        )
        if failed:
            self._saver.finish()
        if made:
            loss /= made.loss_normalizer
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", step=made.step)
            self._log(made, loss, norm)
        return bool(stop)

    def _log(self, made: MadeStep, loss: float, norm: float) -> None:
        values = {names.LOSS: loss, **made.metrics}
        if not math.isnan(norm):
            values[names.GRAD_NORM] = norm
        values[names.MEMORY_PEAK_GIB] = metrics.peak_memory_gib(self._device)
        values[names.GOODPUT] = self._goodput.fraction()
        self._tracker.log(values, step=made.step, tokens=made.tokens)
        self._bar.advance(1, note=f"loss {loss:.4f}")
        total, every = self._config.training.max_steps, self._config.training.log_every_steps
        if made.step == total or made.step % every == 0:
            logger.info(metrics.step_line(made.step, total, values))

    def _skip(self, made: MadeStep) -> None:
        """Count an update that was skipped.

        Raises:
            TrainingDiverged: several in a row were.
        """
        loss, _ = made.numbers.read()
        (loss,) = self._ranks.sum([loss if self._groups.computes_loss else 0.0])
        sequences = self._data.last_sequences()
        self._state.skipped_updates += 1
        if self._ranks.is_main:
            logger.warning(
                f"update {made.step:,} is skipped: its gradient is not finite (loss "
                f"{loss / made.loss_normalizer:.4g}); sequences {', '.join(map(str, sequences))}"
            )
        # fp16 begins with a scale of the loss that is too large, and finds a smaller one.
        if self._engine.loss_scale.get("cur_scale", 1) > 1:
            return
        if why := self._skipped_updates.add(sequences):
            raise self._diverged(why, step=made.step)

    def _check_weights(self) -> None:
        """Check on all ranks that what each holds is finite, before the weights are used.

        Raises:
            TrainingDiverged: on all ranks, where a weight or a moment of any rank is not finite.
        """
        if self._ranks.sum([float(not self._engine.state.is_finite())])[0]:
            raise self._diverged("weights are not finite after the update")

    def _diverged(self, what: str, *, step: int | None = None) -> TrainingDiverged:
        return diverged(
            what,
            step=self._state.step if step is None else step,
            learning_rate=self._config.optimizer.learning_rate,
            checkpoints=self._folder / CHECKPOINTS,
            # The last may still be being written: it is committed before the run ends.
            steps=sorted({*self._store.steps(), self._saved_step} - {0}),
        )

    def _save(self) -> None:
        """Begin a checkpoint of this step; it is written while training continues."""
        self._check_weights()
        self._tracker.sync()
        self._state.loader = self._data.state_dict()
        self._state.goodput = self._goodput.state()
        self._state.loss_scale = self._engine.loss_scale
        self._saver.save(self._state)
        self._saved_step = self._state.step
        self._watchdog.heartbeat()

    def _evaluate(self) -> None:
        step, tokens = self._state.step, self._state.tokens
        self._check_weights()
        try:
            with self._garbage.automatic():
                results = self._evaluation(self._engine, name=step_name(step))
        except FloatingPointError as error:
            raise self._diverged(f"an evaluation ended ({error})") from error
        for result in results:
            self._tracker.table(
                f"eval/{result.name}/samples",
                TABLE_COLUMNS,
                result.table_rows,
                step=step,
                tokens=tokens,
            )
        # Last and in one line: it marks the evaluation as complete (`has_evaluation`).
        values = {name: value for result in results for name, value in result.metrics().items()}
        self._tracker.log(values, step=step, tokens=tokens)
        shown = " | ".join(f"{name} {value:.3f}" for name, value in values.items())
        logger.info(f"step {step:,}/{self._config.training.max_steps:,} | {shown}")
        self._watchdog.heartbeat()

    def _resume(self, checkpoint: Path) -> None:
        state = TrainState.load(checkpoint)
        universal.read(checkpoint, self._engine, step=state.step)
        self._engine.set_loss_scale(state.loss_scale)
        self._data.load_state_dict(state.loader)
        self._saved_step = state.step
        before, state.layout = Layout(**state.layout), asdict(self._layout)
        self._state = state
        logger.info(f"resuming from {checkpoint} ({state.tokens:,} tokens)")
        if before != self._layout:
            logger.info(
                f"resharding: the checkpoint was saved at {before}, this run is at {self._layout}"
            )
