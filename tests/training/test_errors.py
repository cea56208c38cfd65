import errno
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from parallel.ranks import PeerFailed
from training import config, errors
from training.disk import error_of
from training.errors import (
    CheckpointError,
    ConfigError,
    DamagedFileError,
    DataError,
    TrainingDiverged,
    UserError,
    is_for_people,
)
from training.execution.sandbox.jail import IsolationError
from training.lifecycle.attempts import NoProgress


@pytest.mark.parametrize(
    "kind",
    [
        UserError,
        ConfigError,
        DataError,
        CheckpointError,
        DamagedFileError,
        TrainingDiverged,
        PeerFailed,
        IsolationError,
        NoProgress,
    ],
)
def test_a_user_error_is_for_users(kind: type[UserError]):
    assert issubclass(kind, UserError)
    assert is_for_people(kind("what is wrong"))


def test_files_and_disks_are_for_users_and_bugs_are_not():
    assert is_for_people(FileNotFoundError("there is no such file"))
    assert is_for_people(FileExistsError("there is one already"))
    assert is_for_people(OSError(errno.ENOSPC, "No space left on device"))
    assert is_for_people(error_of("weights cannot be written", errno.EIO))
    for bug in (ValueError("x"), KeyError("x"), RuntimeError("x"), ConnectionResetError("x")):
        assert not is_for_people(bug)


def test_the_kinds_are_distinguished():
    kinds = (ConfigError, DataError, CheckpointError, DamagedFileError, TrainingDiverged)
    for kind in kinds:
        assert [issubclass(kind, other) for other in kinds].count(True) == 1


def test_pydantic_reports_one_that_a_validator_raises():
    class Settings(BaseModel):
        rate: float

        @field_validator("rate")
        @classmethod
        def _rate(cls, rate: float) -> float:
            raise ConfigError(f"rate = {rate} is too high")

    with pytest.raises(ValidationError, match="rate = 2.0 is too high"):
        Settings(rate=2)


def test_the_config_package_offers_its_own_error():
    assert config.ConfigError is errors.ConfigError


def test_it_imports_nothing_of_ours():
    code = (
        "import sys, training.errors; print([name for name in sys.modules if name.split('.')[0] in "
        "('training', 'parallel', 'checkpoints', 'launch', 'torch')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['training', 'training.errors']"
