"""Errors that a person can correct, as opposed to bugs.

A person is told what is wrong in one message, without a traceback, and the exit code is 2.
"""

import errno

from training.config import ConfigError

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


def is_for_people(error: BaseException) -> bool:
    """Whether the error's message is all that a person needs to correct it."""
    if isinstance(error, ConfigError | FileNotFoundError | FileExistsError):
        return True
    return isinstance(error, OSError) and error.errno in _ERRNOS
