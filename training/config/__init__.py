"""Every setting of the project, typed and checked, without importing torch.

    config = load(TrainConfig, ["configs/generator_demo.toml"], ["training.max_steps=500"])

Files are merged left to right, then `key=value` overrides. An unknown key is an error that
names the nearest known key; a value out of bounds is an error that names the bounds. A loaded
config is frozen. `resolved(config)` is the whole config as plain JSON: it is saved in the run
folder and sent to W&B. docs/configuration.md lists every key.

Units are in the names of the fields. A field without a unit is a count, a fraction or a name.
"""

from training.config.columns import ColumnsConfig, Extractor, Form
from training.config.data import DataConfig, TokenizerConfig
from training.config.evaluation import EvaluationConfig, SamplingConfig
from training.config.load import checked, load, resolved
from training.config.recipe import STAGE_VERBS, RecipeConfig
from training.config.run import ExecutionConfig, RunConfig, TrackingConfig
from training.config.sources import BenchmarkConfig, DifficultyConfig, SourceConfig
from training.config.training import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    TrainingConfig,
)
from training.config.verbs import (
    EvaluateConfig,
    PrepareConfig,
    SampleConfig,
    TrainConfig,
)
from training.errors import ConfigError

__all__ = [
    "STAGE_VERBS",
    "BenchmarkConfig",
    "CheckpointConfig",
    "ColumnsConfig",
    "ConfigError",
    "DataConfig",
    "DifficultyConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ExecutionConfig",
    "Extractor",
    "Form",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PrepareConfig",
    "RecipeConfig",
    "RunConfig",
    "SampleConfig",
    "SamplingConfig",
    "SourceConfig",
    "TokenizerConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainingConfig",
    "checked",
    "load",
    "resolved",
]
