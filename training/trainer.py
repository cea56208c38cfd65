"""The training loop, of generators and verifiers alike.

    with StopSignal(ranks) as stop, Trainer(config, ranks, stop) as trainer:
        trainer.run()

A step: load this step's micro-batches; sum the loss normalizer over all ranks (and whether a
signal came to one of them); accumulate gradients of `sum of losses / loss normalizer`; update;
log. Then, when due: commit a checkpoint, evaluate. A checkpoint holds all that the next attempt
needs to resume bit-exactly (training/train_state.py).
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from typing_extensions import Self

from checkpoints import universal
from checkpoints.store import CheckpointStore
from checkpoints.together import written_together
from parallel.gather import whole_weights
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from training.checkpoint_paths import CHECKPOINTS, step_name
from training.config import TrainConfig, resolved
from training.data.step_batches import StepBatches
from training.data.tokenizer import FOLDER as TOKENIZER_FOLDER
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError, DataError, TrainingDiverged
from training.evaluation import load
from training.evaluation.benchmark import TABLE_COLUMNS
from training.evaluation.in_training import InTrainingEvaluation
from training.lifecycle.cancellation import Cancellation
from training.lifecycle.divergence import SkippedUpdates, diverged
from training.lifecycle.resume import refuse_checkpoint
from training.lifecycle.signals import Stopped, StopSignal
from training.lifecycle.watchdog import Watchdog
from training.models import huggingface
from training.models.build import WEIGHTS, empty_model, shape_of
from training.monitoring import metrics, names
from training.monitoring.metrics_file import has_evaluation
from training.monitoring.progress import Progress
from training.monitoring.tracking import Tracker
from training.schedule import learning_rate
from training.train_state import TrainState

logger = logging.getLogger(__name__)


def tokenizer_of(config: TrainConfig) -> Tokenizer:
    """The prepared data's tokenizer.

    Raises:
        ConfigError: it has ids that the model has no embedding for.
    """
    tokenizer = Tokenizer.load(config.data.folder / TOKENIZER_FOLDER)
    if tokenizer.vocab_size > config.model.vocab_size:
        raise ConfigError(
            f"model.vocab_size = {config.model.vocab_size} is below the tokenizer's "
            f"{tokenizer.vocab_size} ids: set at least that many"
        )
    return tokenizer


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
                pinned=self._device.type == "cuda",
            )
            stack.callback(self._data.close)
            self._tokenizer = tokenizer_of(config)
            if config.model.initial_weights and not checkpoint:
                load.verify(config.model.initial_weights, ranks)
            self._engine = parallelize(
                config,
                self._groups,
                self._device,
                # Drawing starting values takes longer than reading these.
                value_of=universal.weights(checkpoint, config.model) if checkpoint else None,
            )
            stack.callback(self._engine.close)
            self._state = TrainState(layout=asdict(self._layout))
            self._skipped_updates = SkippedUpdates()
            self._saved_step = 0
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
        is_main = self._ranks.is_main
        bar = Progress("training", total=total, unit="steps", shown=is_main, logs_lines=False)
        with self._watchdog, bar:
            bar.skip(self._state.step)
            try:
                if self._evaluation_is_missing():
                    self._evaluate()
                timer = metrics.StepTimer()
                while self._state.step < total:
                    stopped, values = self._step(timer)
                    self._watchdog.heartbeat()
                    if values is None:  # skipped, and no step: nothing is due
                        if stopped:
                            raise Stopped
                        timer.restart()
                        continue
                    bar.advance(1, note=f"loss {values[names.LOSS]:.4f}")
                    last = self._state.step == total
                    if last or self._is_due(self._config.training.log_every_steps):
                        logger.info(metrics.step_line(self._state.step, total, values))
                    if stopped and not last:
                        raise Stopped
                    if last:
                        self._data.finish()
                    if last or self._is_due(self._config.checkpoint.every_steps):
                        self._save()
                    if self._is_due(self._config.evaluation.every_steps):
                        self._evaluate()
                    timer.restart()
            except Stopped:
                if self._saved_step != self._state.step:
                    self._save()
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
        return not self._ranks.gather(self._ranks.is_main and has_evaluation(self._folder, step))[0]

    def _step(self, timer: metrics.StepTimer) -> tuple[bool, dict[str, float] | None]:
        """One update; whether a signal came to any rank, and the step's metrics.

        The metrics are None where the update was skipped, since its gradient is not finite.
        """
        with timer.waiting():
            batches = self._data.next_step()
        counted = ("weight", "num_tokens", "num_supervised", "num_attended")
        counts = [sum(getattr(batch, name) for batch in batches) for name in counted]
        if not self._groups.counts:
            counts = [0.0] * len(counts)  # another rank reports these batches
        loss_normalizer, tokens, supervised, keys, stop, failed = self._sum_over_ranks(
            [*counts, int(self._stop.requested), int(self._data.failed)]
        )
        if failed:
            self._data.raise_together()
        if not loss_normalizer:
            raise DataError(f"step {self._state.step + 1} holds no supervised token")
        self._seed_dropout()
        rate = learning_rate(
            self._state.step,
            max_steps=self._config.training.max_steps,
            optimizer=self._config.optimizer,
        )
        losses = self._engine.train_step(
            batches, loss_normalizer=loss_normalizer, learning_rate=rate
        )
        loss = float(losses) if self._groups.computes_loss else 0.0
        loss, overflowed = self._sum_over_ranks([loss, float(self._gradients_overflowed())])
        loss /= loss_normalizer
        if overflowed:
            self._skip(loss)
            return bool(stop), None
        self._skipped_updates.end()
        self._state.step += 1
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        self._state.tokens += int(tokens)
        step_counts = metrics.StepCounts(
            tokens=int(tokens),
            supervised=int(supervised),
            keys=int(keys),
            capacity_tokens=self._config.training.global_batch_sequences
            * self._config.data.sequence_length,
        )
        return bool(stop), self._log(timer, loss, rate, step_counts)

    def _gradients_overflowed(self) -> bool:
        norm = self._engine.grad_norm
        return norm is not None and not math.isfinite(norm)

    def _skip(self, loss: float) -> None:
        """Count an update that was skipped.

        Raises:
            TrainingDiverged: several in a row were.
        """
        sequences = self._data.last_sequences()
        self._state.skipped_updates += 1
        step = self._state.step + 1
        if self._ranks.is_main:
            logger.warning(
                f"update {step:,} is skipped: its gradient is not finite (loss {loss:.4g}); "
                f"sequences {', '.join(map(str, sequences))}"
            )
        # fp16 begins with a scale of the loss that is too large, and finds a smaller one.
        if self._engine.loss_scale.get("cur_scale", 1) > 1:
            return
        if why := self._skipped_updates.add(sequences):
            raise self._diverged(why, step=step)

    def _check_weights(self) -> None:
        """Check on all ranks that what each holds is finite, before the weights are used.

        Raises:
            TrainingDiverged: on all ranks, where a weight or a moment of any rank is not finite.
        """
        if self._sum_over_ranks([float(not self._engine.has_finite_state())])[0]:
            raise self._diverged("weights are not finite after the update")

    def _diverged(self, what: str, *, step: int | None = None) -> TrainingDiverged:
        return diverged(
            what,
            step=self._state.step if step is None else step,
            learning_rate=self._config.optimizer.learning_rate,
            checkpoints=self._folder / CHECKPOINTS,
            steps=self._store.steps(),
        )

    def _seed_dropout(self) -> None:
        """Make dropout's randomness a function of the step, so that none of it has to be saved.

        Tensor-parallel neighbours draw the same: each computes a part of the same activations.
        """
        layout, place = self._layout, self._groups.place
        stream = place.stage * layout.data + place.data
        torch.manual_seed(
            (self._config.run.seed * 1_000_003 + self._state.step) * layout.data * layout.pipeline
            + stream
        )

    def _log(
        self, timer: metrics.StepTimer, loss: float, rate: float, counts: metrics.StepCounts
    ) -> dict[str, float]:
        seconds = timer.lap()
        self._goodput.count(seconds.step)
        values: dict[str, float] = {names.LOSS: loss, names.LEARNING_RATE: rate}
        if (norm := self._engine.grad_norm) is not None:
            values[names.GRAD_NORM] = norm
        values |= self._throughput.metrics(counts, seconds) | self._data.metrics()
        values[names.MEMORY_PEAK_GIB] = metrics.peak_memory_gib(self._device)
        values[names.SKIPPED_UPDATES] = self._state.skipped_updates
        values[names.GOODPUT] = self._goodput.fraction()
        self._tracker.log(values, step=self._state.step, tokens=self._state.tokens)
        return values

    def _sum_over_ranks(self, values: list[float]) -> list[float]:
        """Add up over ranks, on the CPU: the device computes meanwhile.

        float64 holds counts of tokens exactly.
        """
        if self._ranks.world_size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def _save(self) -> None:
        self._check_weights()
        self._tracker.sync()
        with self._store.writing(self._state.step, sizes=self._checkpoint_sizes()) as folder:
            universal.write(folder, self._engine)
            self._watchdog.heartbeat()
            weights = (
                (name, value.to("cpu", copy=True)) for name, value in whole_weights(self._engine)
            )
            with written_together(self._ranks):
                try:
                    if self._ranks.is_main:
                        self._write_model(folder, weights)
                finally:
                    for _ in weights:  # a collective of all ranks: each must reach its end
                        pass
        self._saved_step = self._state.step
        self._watchdog.heartbeat()

    def _write_model(self, folder: Path, weights: Iterator[tuple[str, Tensor]]) -> None:
        """What one rank writes of a checkpoint: the model's folder and the train state."""
        huggingface.write_folder(
            folder / WEIGHTS,
            shape_of(self._config.model),
            self._config.model.head,
            weights,
            dtype=self._engine.dtype,
            end_token=self._tokenizer.end_token,
        )
        self._tokenizer.save(folder / WEIGHTS)
        self._state.loader = self._data.state_dict()
        self._state.goodput = self._goodput.state()
        self._state.loss_scale = self._engine.loss_scale
        self._state.save(folder)

    def _checkpoint_sizes(self) -> list[int]:
        """Bytes of each file of a checkpoint, estimated."""
        model: nn.Module = empty_model(self._config.model, "meta")
        sizes = {name: value.shape for name, value in model.named_parameters()}
        states = universal.file_sizes(sizes)
        weights = sum(size.numel() for size in sizes.values()) * self._engine.dtype.itemsize
        prepared = (self._config.data.folder / TOKENIZER_FOLDER).iterdir()
        tokenizer = [path.stat().st_size for path in prepared]
        # Lists of all files and all tensors take about 200 bytes per entry.
        return [*states, weights, *tokenizer, 200 * len(states), 4096, 4096, 4096]

    def _evaluate(self) -> None:
        step, tokens = self._state.step, self._state.tokens
        self._check_weights()
        try:
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
