"""Write TinyGSM's stand-in, or measure it.

python -m tests.bench.stand_in OUT --rows 12_300_000 --shards 17 --seed 1 --workers 2
python -m tests.bench.stand_in OUT --measure
"""

import argparse
import json
import os
import resource
from pathlib import Path

from tests.bench.stand_in.measure import measured
from tests.bench.stand_in.shards import Shards, write

_DATA = Path(os.environ.get("TINYGSM_DATA", Path(__file__).parents[4] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the shards")
    parser.add_argument("--rows", type=int, default=12_300_000)
    parser.add_argument("--shards", type=int, default=17)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--gsm8k", type=Path, default=_DATA / "gsm8k" / "train.jsonl", help="GSM8K's train.jsonl"
    )
    parser.add_argument("--measure", action="store_true", help="measure the folder, write no row")
    parser.add_argument("--out", type=Path, help="file for what --measure finds")
    options = parser.parse_args()
    if options.measure:
        text = json.dumps(measured(options.folder), indent=2)
        print(text)
        if options.out:
            options.out.write_text(text + "\n")
        return
    shards = Shards(options.folder, options.rows, options.shards, options.seed)
    written = write(shards, options.gsm8k, num_workers=options.workers)
    print(f"{len(written)} of {options.shards} shards written, the others were there")
    used = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    num_rows = sum(len(shards.rows_of(shard)) for shard in written)
    if num_rows:
        print(f"{used:.0f} CPU seconds, {used / num_rows * 1e6:.0f} µs a row")
    for name, number in shards.counts().items():
        print(f"{number:12,}  {name}")


if __name__ == "__main__":
    main()
