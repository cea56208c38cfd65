"""Evaluation of a model while it is trained, on all ranks, with its current weights.

A generator answers the benchmarks itself; with `evaluation.verifier` set, that verifier
scores what it wrote. A verifier scores the programs of `evaluation.generator`, which are
drawn once and kept: only the scores change from one evaluation to the next.

The weights never go through the disk: each rank fills a replica from the engine, one
block at a time (parallel/gather.py).
"""

import torch

from parallel.engine import Engine
from parallel.gather import fill
from parallel.ranks import Ranks
from training.config import BenchmarkConfig, TrainConfig
from training.data.benchmarks import questions
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError
from training.evaluation import load
from training.evaluation.benchmark import (
    Answers,
    BenchmarkResult,
    Scorer,
    evaluate,
    scorer_of,
)
from training.evaluation.sampler import Sampler
from training.execution.executor import Executor
from training.lifecycle.cancellation import Cancellation
from training.models.build import empty_model
from training.models.heads import LanguageModel, Verifier
from training.records import Question


class InTrainingEvaluation:
    """The benchmarks of `evaluation`, ready to be run on a training engine.

    Args:
        config: `evaluation`, `model` and `execution` are read.
        ranks: The processes of the run.
        tokenizer: The one that is trained with.
        device: Where this rank computes.
        cancellation: Checked between two batches of questions.

    Raises:
        ConfigError: a verifier is trained and there is no generator to write programs, or a
            saved model cannot be used: reported now rather than at the first evaluation.
        FileNotFoundError: a benchmark or a model is not there.
    """

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        tokenizer: Tokenizer,
        device: torch.device,
        *,
        cancellation: Cancellation,
    ) -> None:
        self._config, self._ranks = config, ranks
        self._tokenizer, self._device = tokenizer, device
        self._cancellation = cancellation
        settings = config.evaluation
        self._questions: dict[BenchmarkConfig, list[Question]] = {}
        self._answers: dict[str, list[Answers]] = {}
        if not settings.every_steps:
            return
        if config.model.head == "verifier" and not settings.generator:
            raise ConfigError(
                "evaluation.every_steps is set for a verifier, but evaluation.generator is "
                "empty: name the generator whose programs it is to score, or set 0"
            )
        if not settings.benchmarks:
            raise ConfigError(
                "evaluation.every_steps is set, but evaluation.benchmarks is empty: name at "
                "least one benchmark, or set 0"
            )
        self._questions = ranks.on_main(
            lambda: {entry: questions(entry) for entry in settings.benchmarks}
        )
        self._check_saved_model()

    def __call__(self, engine: Engine, *, name: str) -> list[BenchmarkResult]:
        """Run all benchmarks (all ranks call it together).

        Args:
            engine: Holds the weights that are trained.
            name: `generator` of the candidates that the trained generator writes: `step_400`.

        Raises:
            Stopped: on all ranks; nothing is left of the evaluation.
        """
        dtype = load.inference_dtype(self._device)
        replica = empty_model(self._config.model, self._device).to(dtype).eval()
        fill(replica, engine)
        # An error on one rank must not leave the others waiting forever: what
        # programs do is bounded by the executor, what the model does by max_new_tokens.
        with Executor.from_config(self._config.execution) as executor:
            if isinstance(replica, Verifier):
                return self._of_verifier(replica, executor)
            return self._of_generator(replica, executor, name)

    def _check_saved_model(self) -> None:
        """Of the two models of `evaluation` only the one that is not trained is read."""
        settings = self._config.evaluation
        if self._config.model.head == "verifier":
            load.check([(settings.generator, "language_model")], self._ranks)
            named = {"evaluation.generator": settings.generator}
            self._ranks.on_main(
                lambda: load.refuse_other_prompts(
                    "evaluation.prompt_template", settings.prompt_template, named
                )
            )
        else:
            load.check([(settings.verifier, "verifier")], self._ranks)

    def _of_generator(
        self, generator: LanguageModel, executor: Executor, name: str
    ) -> list[BenchmarkResult]:
        settings = self._config.evaluation
        sampler = self._sampler(generator, self._tokenizer, executor, name)
        scorer = None
        if settings.verifier:
            self._check_saved_model()  # it may have changed since training began
            verifier, tokenizer = load.load_verifier(settings.verifier, self._device)
            scorer = scorer_of(
                verifier, tokenizer, settings, check_cancelled=self._cancellation.check_cancelled
            )
        return [self._evaluated(entry, sampler, scorer) for entry in settings.benchmarks]

    def _of_verifier(self, verifier: Verifier, executor: Executor) -> list[BenchmarkResult]:
        settings = self._config.evaluation
        sampler = None
        if not self._answers:
            self._check_saved_model()  # it may have changed since training began
            generator, tokenizer = load.load_generator(
                settings.generator, self._device, prompt_template=settings.prompt_template
            )
            name = load.names([settings.generator])[0]
            sampler = self._sampler(generator, tokenizer, executor, name)
        scorer = scorer_of(
            verifier, self._tokenizer, settings, check_cancelled=self._cancellation.check_cancelled
        )
        results = [self._evaluated(entry, sampler, scorer) for entry in settings.benchmarks]
        self._answers = {result.name: result.answers for result in results}
        return results

    def _sampler(
        self, generator: LanguageModel, tokenizer: Tokenizer, executor: Executor, name: str
    ) -> Sampler:
        return Sampler(
            generator,
            tokenizer,
            executor,
            settings=self._config.evaluation,
            seed=self._config.run.seed,
            name=name,
            check_cancelled=self._cancellation.check_cancelled,
        )

    def _evaluated(
        self, entry: BenchmarkConfig, sampler: Sampler | None, scorer: Scorer | None
    ) -> BenchmarkResult:
        return evaluate(
            sampler,
            entry.name,
            self._questions[entry],
            settings=self._config.evaluation,
            ranks=self._ranks,
            scorer=scorer,
            answers=self._answers.get(entry.name),
            num_table_rows=self._config.tracking.num_table_rows,
            independent_work=self._cancellation.independent_work,
        )
