"""Turn the `data` table of a training config into token shards.

    python launch/prepare.py configs/generator_demo.toml
    python launch/prepare.py configs/generator_125m.toml data.num_workers=32
    python launch/prepare.py configs/generator_demo.toml --show 3
    mpirun -np 33 python launch/prepare.py CONFIG              32 workers, on any number of nodes
    python launch/prepare.py CONFIG --array-task 3/8           one of 8 jobs that share the work

Takes any training config. A folder that is up to date is left alone; an interrupted one resumes
from the parts that are made. `--show N` prints the first N examples that training sees, with the
supervised text marked, instead of preparing.
"""

from collections.abc import Sequence

from launch.arguments import DEFAULT_CONFIG, add_array_task, config_of, parser, run, run_stage
from training.config import ConfigError, PrepareConfig, TrainConfig


def main(argv: Sequence[str]) -> int:
    """Prepare, or show what was prepared; 0: finished, 130: stopped by a signal, resumable."""
    options = parser(__doc__ or "", DEFAULT_CONFIG)
    options.add_argument(
        "--show",
        type=int,
        metavar="N",
        help="print N examples of the prepared data, supervised text marked",
    )
    add_array_task(options)
    arguments = options.parse_args(argv)
    if arguments.show is not None and arguments.show < 1:
        raise ConfigError(f"--show {arguments.show}: print 1 example or more")
    config = config_of(arguments, TrainConfig)
    # Imported once the command line is known to be right; every worker process imports this file.
    if arguments.show is not None:
        from training.data.show import show

        wanted = PrepareConfig(data=config.data, execution=config.execution)
        show(wanted, arguments.show, seed=config.run.seed)
        return 0
    from training.stages.prepare import PrepareStage

    return run_stage(PrepareStage(config), arguments)


if __name__ == "__main__":
    run(main)
