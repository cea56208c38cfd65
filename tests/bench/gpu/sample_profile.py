"""Where decoding spends its time: several token steps of the 1.3B shape, many at a time."""

from tests.bench.gpu.profiling import Profiler, record_profile
from tests.bench.gpu.record import Record
from tests.bench.gpu.sample import NO_END, Sizes, sampled_model
from tests.bench.gpu.setting import Setting
from training.evaluation.generate import generate

FIRST, STEPS = 6, 8
"""Token steps before the profile, after one prefill; and in it."""
TOP = 12


class _Done(Exception):
    """Ends a generation that has been profiled."""


def run(setting: Setting, record: Record) -> None:
    """Steps in which nobody finishes and nobody joins."""
    sizes = Sizes(setting)
    requests = sizes.requests(sizes.live // sizes.candidates)
    model = sampled_model(setting, sizes.mean_tokens)
    record.note(
        f"One of {STEPS} token steps of {len(requests)} sequences, after {FIRST}; in a CPU's "
        "profile the operators in place of kernels."
    )
    profiler, forwards = Profiler(setting), 0

    def before_forward() -> None:
        nonlocal forwards
        forwards += 1
        if forwards == FIRST:
            profiler.start()
        elif forwards == FIRST + STEPS:
            raise _Done

    try:
        generate(
            model,
            requests,
            end_token=NO_END,
            max_new_tokens=2 * (FIRST + STEPS),
            max_batch=len(requests),
            check_cancelled=before_forward,
        )
    except _Done:
        pass
    name = f"decoding, {len(requests)} at a time"
    record_profile(record, name, profiler.stop(), top=TOP, per=STEPS)
