"""Write a checkpoint of any layout as a Hugging Face folder, compared with its source.

    python launch/export.py runs/demo/generator demo_generator
    python launch/export.py runs/demo/verifier/checkpoints/step_400 demo_verifier --dtype bf16

CHECKPOINT is a `step_N` folder, or a run folder: then its newest checkpoint that verifies.
FOLDER is made; one that holds anything is refused. Afterwards

    transformers.AutoModelForCausalLM.from_pretrained("demo_generator").generate(...)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from launch.arguments import plain_parser, run
from training.config.values import Precision


def main(argv: Sequence[str]) -> int:
    """Export as the command line says; 0 when the folder gives the source's logits."""
    parser = plain_parser(__doc__ or "")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--dtype",
        choices=get_args(Precision),
        default="fp32",
        help="of the weights written (default: fp32, as they are trained)",
    )
    arguments = parser.parse_args(argv)
    # The libraries behind this take seconds to import.
    from checkpoints.export import export, source_for
    from training.models.dtypes import DTYPES

    dtype = DTYPES[arguments.dtype]
    if arguments.dry_run:
        source = source_for(arguments.checkpoint, arguments.folder.absolute())
        print(
            f"would write {arguments.folder}, {source.num_parameters * dtype.itemsize:,} bytes "
            f"and a tokenizer: the {source.kind} of {source.folder}, compared with it"
        )
        return 0
    print(export(arguments.checkpoint, arguments.folder, dtype))
    return 0


if __name__ == "__main__":
    run(main)
