"""Train a generator or a verifier.

    deepspeed launch/train.py                                  the small default generator
    deepspeed launch/train.py configs/generator_1b3.toml optimizer.learning_rate=2e-4
    torchrun --nproc-per-node=8 launch/train.py CONFIG
    mpirun -np 2 --bind-to none python launch/train.py CONFIG
    srun python launch/train.py CONFIG
    python launch/train.py CONFIG
    python launch/train.py CONFIG --dry-run --ranks 32         settings, layout, memory; no more

A second call resumes from the newest checkpoint. Ctrl-C, SIGTERM or SIGUSR1 to any rank saves
one and ends.
"""

from collections.abc import Sequence

from launch.arguments import DEFAULT_CONFIG, config_of, parser, run, run_stage
from training.config import TrainConfig
from training.stages.train import TrainStage


def main(argv: Sequence[str]) -> int:
    """Train as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    arguments = parser(__doc__ or "", DEFAULT_CONFIG).parse_args(argv)
    return run_stage(TrainStage(config_of(arguments, TrainConfig)), arguments)


if __name__ == "__main__":
    run(main)
