"""Train a generator or a verifier.

    deepspeed launch/train.py                                  the small default generator
    deepspeed launch/train.py configs/generator_1b3.toml optimizer.learning_rate=2e-4
    torchrun --nproc-per-node=8 launch/train.py CONFIG
    mpirun -np 2 --bind-to none python launch/train.py CONFIG
    srun python launch/train.py CONFIG
    python launch/train.py CONFIG
    python launch/train.py CONFIG --dry-run --ranks 32         settings, layout, memory; no more

A second call goes on from the newest checkpoint. Ctrl-C, SIGTERM or
SIGUSR1 to any rank saves one and ends.
"""

from collections.abc import Sequence
from pathlib import Path

from launch.arguments import config_of, dry_run, parser, run, stopped
from parallel.layout import Layout
from parallel.ranks import discover
from training.config import TrainConfig

DEFAULT = Path(__file__).parent.parent / "configs" / "generator_demo.toml"


def main(arguments: Sequence[str]) -> int:
    """Train as the command line says; 0: finished, 130: stopped by a signal, resumable."""
    parsed = parser(__doc__ or "", str(DEFAULT)).parse_args(arguments)
    config = config_of(parsed, TrainConfig)
    if parsed.dry_run:
        return dry_run("train", config, parsed)
    ranks = discover()
    Layout.from_config(config, ranks.world_size)
    # Checked first, since the libraries behind this take seconds to import.
    from training.lifecycle.signals import Stopped
    from training.stages.train import train

    try:
        train(config, ranks)
    except Stopped:
        return stopped(ranks)
    finally:
        ranks.disconnect()
    return 0


if __name__ == "__main__":
    run(main)
