"""Turn the `data` table of a training config into token shards.

    python launch/prepare.py configs/generator_demo.toml
    python launch/prepare.py configs/generator_125m.toml data.num_workers=32
    python launch/prepare.py configs/generator_demo.toml --show 3

Takes any training config. A folder that is up to date is left alone. `--show N` prints
the first N examples that training sees, with what is supervised marked, instead of preparing.
"""

from collections.abc import Sequence
from pathlib import Path

from launch.arguments import config_of, parser, run
from training.config import PrepareConfig, TrainConfig

DEFAULT = Path(__file__).parent.parent / "configs" / "generator_demo.toml"


def main(arguments: Sequence[str]) -> int:
    """Prepare, or show what was prepared; 0: finished."""
    options = parser(__doc__ or "", str(DEFAULT))
    options.add_argument(
        "--show",
        type=int,
        metavar="N",
        help="print N examples of the prepared data, supervised text marked",
    )
    parsed = options.parse_args(arguments)
    config = config_of(parsed, TrainConfig)
    # Checked first, since the libraries below take seconds to import; and every worker
    # process imports this file again.
    if parsed.show is not None:
        from training.data.show import show

        show(config.data, parsed.show, seed=config.run.seed)
    else:
        from training.data.prepare import prepare

        prepare(PrepareConfig(data=config.data, execution=config.execution))
    return 0


if __name__ == "__main__":
    run(main)
