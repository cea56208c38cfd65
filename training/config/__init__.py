"""Every setting of the project, typed and checked, without importing torch.

    config = load(TrainConfig, ["configs/generator_demo.toml"], ["training.max_steps=10"])

Files are merged left to right, then `key=value` overrides. A key that does not exist is
an error that names the nearest one; a value out of its bounds says which bounds. What
was loaded never changes afterwards, and `resolved(config)` is the whole of it as plain
JSON, saved in the run folder and sent to W&B.
"""

from training.config.load import checked, load, resolved
from training.config.recipe import RecipeConfig
from training.config.sections import (
    BenchmarkConfig,
    CheckpointConfig,
    DataConfig,
    DifficultyConfig,
    EvaluationConfig,
    ExecutionConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    RunConfig,
    SamplingConfig,
    SourceConfig,
    TokenizerConfig,
    TrackingConfig,
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
    "BenchmarkConfig",
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "DifficultyConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ExecutionConfig",
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
