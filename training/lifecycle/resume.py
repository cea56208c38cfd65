"""Whether a training run may resume from its newest checkpoint."""

from pathlib import Path

from training.checkpoint_paths import step_of
from training.config import TrainConfig
from training.errors import ConfigError


def refuse_checkpoint(config: TrainConfig, checkpoint: Path) -> None:
    """Refuse to resume from a checkpoint that the config rules out.

    Raises:
        FileExistsError: `run.resume` is `never`.
        ConfigError: it is past the last step.
    """
    if config.run.resume == "never":
        raise FileExistsError(
            f"{config.run.folder} holds {checkpoint.name} and run.resume is 'never': "
            "set run.resume = 'auto' to resume, or another run.folder to start again"
        )
    if (step_of(checkpoint.name) or 0) > config.training.max_steps:
        raise ConfigError(
            f"{checkpoint} is past training.max_steps = {config.training.max_steps}: "
            "raise it, or set another run.folder"
        )
