"""Turn the `data` table of a training config into token shards.

    python launch/prepare.py configs/generator_demo.toml
    python launch/prepare.py configs/generator_125m.toml data.num_workers=32
    python launch/prepare.py configs/generator_demo.toml --show 3
    mpirun -np 33 python launch/prepare.py CONFIG              32 workers, on any number of nodes
    python launch/prepare.py CONFIG --array-task 3/8           one of 8 jobs that share the work

Takes any training config. A folder that is up to date is left alone; one that was cut short
goes on from the parts that are made. `--show N` prints the first N examples that training sees,
with what is supervised marked, instead of preparing.
"""

from collections.abc import Sequence
from pathlib import Path

from launch.arguments import add_array_task, config_of, dry_run, parser, run, said_stopped
from training.config import ConfigError, PrepareConfig, TrainConfig

DEFAULT = Path(__file__).parent.parent / "configs" / "generator_demo.toml"


def main(arguments: Sequence[str]) -> int:
    """Prepare, or show what was prepared; 0: finished, 130: stopped by a signal, resumable."""
    options = parser(__doc__ or "", str(DEFAULT))
    options.add_argument(
        "--show",
        type=int,
        metavar="N",
        help="print N examples of the prepared data, supervised text marked",
    )
    add_array_task(options)
    parsed = options.parse_args(arguments)
    if parsed.show is not None and parsed.show < 1:
        raise ConfigError(f"--show {parsed.show}: print 1 example or more")
    config = config_of(parsed, TrainConfig)
    if parsed.dry_run and parsed.show is None:
        return dry_run("prepare", config, parsed)
    wanted = PrepareConfig(data=config.data, execution=config.execution)
    # Checked first, since the libraries below take seconds to import; and every worker
    # process imports this file again.
    if parsed.show is not None:
        from training.data.show import show

        show(wanted, parsed.show, seed=config.run.seed)
        return 0
    from parallel.ranks import ALONE
    from parallel.workers.pool import worker_pool
    from training.lifecycle.signals import Stopped, StopSignal

    with worker_pool(config.data.num_workers) as pool:
        if pool is None:
            return 0
        from training.data.held_out import refuse_shared
        from training.data.prepare import prepare_array_task

        refuse_shared(config)
        try:
            with StopSignal(ALONE) as stop:  # the first rank answers for all
                prepare_array_task(wanted, parsed.array_task, pool, stop=stop)
        except Stopped:
            return said_stopped()
    return 0


if __name__ == "__main__":
    run(main)
