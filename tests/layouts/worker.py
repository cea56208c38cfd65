"""Train several configs one after the other on the same ranks.

Starting ranks takes longer than a toy run: a matrix starts them once per number of ranks.
"""

import sys

from parallel.ranks import discover
from training.config import TrainConfig, load
from training.monitoring import console
from training.stages.train import train

if __name__ == "__main__":
    ranks = discover()
    console.set_up(ranks)
    for path in sys.argv[1:]:
        train(load(TrainConfig, [path]), ranks)
    ranks.disconnect()
