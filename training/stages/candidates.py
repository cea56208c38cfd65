"""What sample and evaluate have in common: candidates are drawn from models on questions."""

from collections.abc import Iterator, Sequence

from training import hub
from training.config import BenchmarkConfig, EvaluationConfig, SamplingConfig
from training.data import benchmarks
from training.manifest import Status


def status_of_hub(models: Sequence[str], question_sets: Sequence[BenchmarkConfig]) -> Status | None:
    """The status where models or questions would have to be fetched; None: all are on disk."""
    remote = [source for source in models if source and hub.local_path(source, "a model") is None]
    remote += [
        benchmark.location
        for benchmark in question_sets
        if benchmark.kind != "problems" and not benchmarks.files_of(benchmark)
    ]
    if not remote:
        return None
    return Status(f"reads {', '.join(remote)} from the hub; what is made is not compared")


def counted(
    section: SamplingConfig | EvaluationConfig,
    question_sets: Sequence[BenchmarkConfig],
    *,
    num_generators: int,
    num_greedy: int,
) -> Iterator[str]:
    """One line for each question set: how many candidates, in how many parts."""
    each = section.num_candidates + num_greedy
    for benchmark in question_sets:
        count = benchmark.num_questions
        if benchmark.kind == "problems" or benchmarks.files_of(benchmark):
            count = len(benchmarks.questions(benchmark))
        if count:
            parts = -(-count // section.questions_per_part) * num_generators
            yield (
                f"{benchmark.name}: {count:,} questions x {each} = {count * each:,} candidates "
                f"in {parts:,} parts"
            )
        else:
            yield f"{benchmark.name}: all questions of {benchmark.location} x {each} candidates"
