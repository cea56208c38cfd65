"""The stages by verb: the one list that recipe, check, dry run and job scripts read."""

from collections.abc import Mapping
from typing import Any

from training.stages.evaluate import EvaluateStage
from training.stages.prepare import PrepareStage
from training.stages.sample import SampleStage
from training.stages.stage import Stage
from training.stages.train import TrainStage

STAGES: Mapping[str, type[Stage[Any]]] = {
    stage.verb: stage for stage in (PrepareStage, TrainStage, SampleStage, EvaluateStage)
}
"""The class of each verb."""
