"""Plan a layout without a cluster: what each GPU holds and sends, or why it cannot be.

    python launch/plan.py configs/generator_1b3.toml parallel.tensor=8 parallel.pipeline=4 \\
        --world-size 1024
    python launch/plan.py CONFIG --world-size 64 --rank 9 --json plan.json
    python launch/plan.py CONFIG --world-size 2 --device-gb 24
    python launch/plan.py CONFIG path/to/Qwen3-0.6B --world-size 8

A folder with a `config.json`, or such a file, replaces the config's model.

One process, no GPU and no memory to speak of. Without `training.device=cpu` it plans for GPUs.
What the config leaves to `auto` is chosen as on a device of `--device-gb`.
"""

from collections.abc import Sequence
from pathlib import Path

from launch.arguments import DEFAULT_CONFIG, config_of, parser, run
from parallel.layout import Layout
from training.config import ConfigError, TrainConfig
from training.config.from_weights import is_saved_model
from training.files import refuse_existing, write_json


def main(argv: Sequence[str]) -> int:
    """Print the plan of one rank, and a line for each pipeline stage."""
    options = parser(__doc__ or "", DEFAULT_CONFIG, reads_only=True)
    options.add_argument(
        "--world-size", type=int, required=True, metavar="RANKS", help="GPUs of the run"
    )
    options.add_argument("--rank", type=int, default=0, help="which of them; from 0")
    options.add_argument(
        "--device-gb", type=float, default=80, help="memory of a rank's device, for `auto`: 80"
    )
    options.add_argument(
        "--json", type=Path, metavar="FILE", help="write the plan here as well; a new file"
    )
    chosen = options.parse_args(argv)
    models = [text for text in chosen.settings if is_saved_model(text)]
    if len(models) > 1:
        raise ConfigError(f"{' and '.join(models)} are models: name one")
    chosen.settings = [text for text in chosen.settings if text not in models]
    config = config_of(chosen, TrainConfig, saved_model="".join(models))
    if chosen.world_size < 1:
        raise ConfigError(f"--world-size {chosen.world_size}: a run has at least 1 rank")
    if chosen.json is not None:
        refuse_existing(chosen.json)
    if not 0 < chosen.device_gb < 1e6:
        raise ConfigError(f"--device-gb {chosen.device_gb:g}: set what its name says, such as 80")
    layout = Layout.from_config(config, chosen.world_size)
    if not 0 <= chosen.rank < layout.world_size:
        raise ConfigError(
            f"--rank {chosen.rank}: the {layout.world_size} ranks are 0 to {layout.world_size - 1}"
        )
    # Checked first, since the libraries behind this take seconds to import.
    from rich.console import Console

    from parallel.planning import auto
    from parallel.planning.device_memory import card_bytes
    from parallel.planning.plan import as_json, make_plan
    from parallel.planning.table import tables

    if auto.asked(config):
        peaks = auto.Peaks(config, layout)
        choice = auto.choose(config, layout, card_bytes(chosen.device_gb), peaks)
        print(choice)
        config = choice.applied(config)
    plan = make_plan(config, layout, rank=chosen.rank)
    console = Console()
    for table in tables(plan, config):
        console.print(table)
    if chosen.json is not None and not chosen.dry_run:
        write_json(chosen.json, as_json(plan))
    return 0


if __name__ == "__main__":
    run(main)
