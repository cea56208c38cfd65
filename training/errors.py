"""Errors that a person can correct, as opposed to bugs.

    raise ConfigError("training.precision = 'fp16' needs a GPU: set 'bf16' or 'fp32'")

A verb prints the message of a `UserError` without a traceback and exits with code 2. The
message must therefore stand alone: what is wrong, both values where two disagree, and what to
set. This module imports nothing of ours, so that every other one can raise these.
"""

import errno

_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EMFILE,
        errno.EBUSY,
        errno.EXDEV,
    }
)
"""Of files and disks. Others, such as a lost connection, are not a person's to correct."""


class UserError(ValueError):
    """Base of the errors whose message is all that a person needs to correct them.

    A `ValueError`, because pydantic turns only those of a validator into its own report.
    """


class ConfigError(UserError):
    """A setting or a command line is wrong, or does not fit the ranks, the data or the model."""


class DataError(UserError):
    """Sources, benchmarks, candidates, tokenizer files or prepared shards cannot be used."""


class CheckpointError(UserError):
    """A checkpoint, a folder of weights or an export cannot be loaded, written or resumed from."""


class DamagedFileError(UserError):
    """A file is not what was written: malformed JSON, or other bytes than its manifest lists."""


class TrainingDiverged(UserError):
    """Loss, gradients, weights or moments are not finite; the step that shows it is not saved."""


def is_for_people(error: BaseException) -> bool:
    """Whether the error's message is all that a person needs to correct it."""
    if isinstance(error, UserError | FileNotFoundError | FileExistsError):
        return True
    return isinstance(error, OSError) and error.errno in _ERRNOS
