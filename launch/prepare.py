"""Turn the `data` table of a training config into token shards.

    python launch/prepare.py configs/generator_demo.toml
    python launch/prepare.py configs/generator_125m.toml data.num_workers=32
    python launch/prepare.py configs/generator_demo.toml --show 3

Takes any training config. A folder that is up to date is left alone. `--show N` prints
the first N packed examples, with what is supervised marked, instead of preparing.
"""

from collections.abc import Sequence

from launch import arguments
from training.config import PrepareConfig, TrainConfig
from training.data.prepare import prepare
from training.data.show import show


def main(argv: Sequence[str]) -> int:
    """Prepare, or show what was prepared; the exit code."""
    parser = arguments.parser(str(__doc__), "configs/generator_demo.toml")
    parser.add_argument(
        "--show",
        type=int,
        metavar="N",
        help="print N examples of the prepared data, supervised text marked",
    )
    parsed = parser.parse_args(argv)
    config = arguments.config_of(parsed, TrainConfig)
    if parsed.show is not None:
        show(config.data, parsed.show)
    else:
        prepare(PrepareConfig(data=config.data, execution=config.execution))
    return 0


if __name__ == "__main__":
    arguments.run(main)
