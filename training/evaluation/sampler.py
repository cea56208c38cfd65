"""Candidates of one generator: written, executed, judged.

    with Executor(limits=...) as executor:
        sampler = Sampler(model, tokenizer, executor, name="step_400", settings=...)
        candidates = sampler.candidates(questions, draws((0.5, 0.7), 48))

It does not deal with ranks, files or scores. A candidate depends on the weights, the
question, the seed and its own index; not on the batch it is drawn in.
"""

import io
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.config import EvaluationConfig, SamplingConfig
from training.data.tokenizer import Tokenizer
from training.errors import CheckpointError
from training.evaluation import work
from training.evaluation.generate import Sampled, SampleRequest, generate
from training.execution import programs
from training.execution.executor import Executor, Program, judge
from training.models.heads import LanguageModel
from training.records import Candidate, Execution, Question


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One candidate to be drawn for every question."""

    index: int
    """Position among the candidates of a question."""
    temperature: float


def draws(
    temperatures: Sequence[float], num_candidates: int, *, first_index: int = 0
) -> list[Draw]:
    """Spread candidates evenly over temperatures, those of one temperature together."""
    each = num_candidates // len(temperatures)
    assert each * len(temperatures) == num_candidates, (temperatures, num_candidates)
    return [
        Draw(index=first_index + position * each + i, temperature=temperature)
        for position, temperature in enumerate(temperatures)
        for i in range(each)
    ]


class Sampler:
    """Draws candidates from one generator.

    Args:
        model: The generator, whole, on one device.
        tokenizer: The one it was trained with.
        executor: Runs the programs; entered by the caller.
        settings: top-p, most new tokens, candidates decoded at a time.
        seed: The run's.
        name: What `Candidate.generator` says: `step_400`.
        number: The generator's index among those sampled, for the random numbers.
        check_cancelled: Called between any two batches of writing and between programs; what it
            raises ends the drawing.

    Raises:
        CheckpointError: the tokenizer has ids that the model has no embedding for.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        executor: Executor,
        *,
        settings: SamplingConfig | EvaluationConfig,
        seed: int,
        name: str,
        number: int = 0,
        check_cancelled: Callable[[], None] | None = None,
    ) -> None:
        if tokenizer.vocab_size > model.shape.vocab_size:
            raise CheckpointError(
                f"generator {name} has embeddings for {model.shape.vocab_size} ids, its "
                f"tokenizer has {tokenizer.vocab_size}: they do not belong together"
            )
        self._model, self._tokenizer, self._executor = model, tokenizer, executor
        self._settings, self._seed, self._name, self._number = settings, seed, name, number
        self._check_cancelled = check_cancelled

    def candidates(
        self,
        questions: Sequence[Question],
        draws: Sequence[Draw],
        *,
        on_written: Callable[[], None] = lambda: None,
    ) -> list[Candidate]:
        """Draw every candidate of every question, question by question, in order.

        Calls `on_written` as each program is written, before any is run.

        Raises:
            FloatingPointError: the model's logits are not finite.
            IsolationError: programs can no longer be run in isolation.
        """
        drawn = [(question, draw) for question in questions for draw in draws]
        written = self._written(drawn, on_written)
        texts = [self._program(sampled) for sampled in written]
        executions = self._executed([question.text for question, _ in drawn], texts)
        return [
            Candidate(
                question_id=question.id,
                question=question.text,
                program=text,
                generator=self._name,
                temperature=draw.temperature,
                index=draw.index,
                status=execution.status,
                value=execution.value,
                error=execution.error,
                verdict=judge(execution, question.gold),
                num_tokens=len(sampled.tokens) + sampled.finished,
                finished=sampled.finished,
            )
            for (question, draw), sampled, text, execution in zip(
                drawn, written, texts, executions, strict=True
            )
        ]

    def _written(
        self, drawn: Sequence[tuple[Question, Draw]], on_written: Callable[[], None]
    ) -> list[Sampled]:
        prompts = {question.id: self._tokenizer.prompt_ids(question.text) for question, _ in drawn}
        requests = [
            SampleRequest(
                prompt=prompts[question.id],
                key=work.key(self._seed, question.id, self._number, draw.index),
                temperature=draw.temperature,
                top_p=self._settings.top_p,
            )
            for question, draw in drawn
        ]
        return generate(
            self._model,
            requests,
            end_token=self._tokenizer.end_tokens,
            max_new_tokens=self._settings.max_new_tokens,
            max_batch=self._settings.micro_batch_candidates,
            # Embeddings are padded; a row without a token must never be written.
            num_token_ids=self._tokenizer.vocab_size,
            on_finished=lambda number, sampled: on_written(),
            check_cancelled=self._check_cancelled,
        )

    def _program(self, sampled: Sampled) -> str:
        text = self._tokenizer.program(sampled.tokens).rstrip()
        return text if sampled.finished else function_end(text)

    def _executed(self, questions: Sequence[str], texts: Sequence[str]) -> list[Execution]:
        """Run each program; equal ones of a question once: at T 0.5 many are equal."""
        sources = [
            programs.source(question, text) for question, text in zip(questions, texts, strict=True)
        ]
        once = list(dict.fromkeys(sources))
        kind = f"func:{programs.FUNCTION}"
        results = self._executor.run(
            [Program(code=source, kind=kind) for source in once],
            check_cancelled=self._check_cancelled,
        )
        by_source = dict(zip(once, results, strict=True))
        return [by_source[source] for source in sources]


def function_end(text: str) -> str:
    """Cut what a generator wrote after the function's body, for one that did not stop itself.

    The body ends where a statement begins that is not indented; a line within brackets or
    a long string is no statement, whatever it starts with. A text without such an end comes
    back whole. The text is split into tokens here, never parsed.
    """
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(f"def f():\n{text}\n").readline):
            depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
            if token.type == tokenize.DEDENT and not depth:
                lines = io.StringIO(text).readlines()
                return "".join(lines[: token.start[0] - 2]).rstrip()
    except (tokenize.TokenError, SyntaxError):
        pass
    return text
