"""Names of the metrics that are logged, charted and read back; needs no torch."""

STEP = "step"
TOKENS = "train/tokens"
"""Real tokens consumed so far: the axis of every chart."""
LOSS = "train/loss"
GRAD_NORM = "train/grad_norm"
LEARNING_RATE = "train/learning_rate"
TOKENS_PER_SECOND = "train/tokens_per_second"
MFU = "train/mfu"
PADDING_FRACTION = "train/padding_fraction"
TIME_DATA_WAIT = "time/data_wait"
TIME_STEP = "time/step"
MEMORY_PEAK_GIB = "memory/peak_gib"
GOODPUT = "goodput/productive_fraction"
EVALUATION = "eval/"
"""Prefix of the names of evaluations' metrics."""


def evaluation_metric(benchmark: str, measure: str) -> str:
    """Name of a benchmark's measure: `eval/gsm8k/pass_at_1`."""
    return f"{EVALUATION}{benchmark}/{measure}"
