"""The console log: time, rank and level before every message, on standard output.

    console.set_up(ranks)                            # once, where a verb starts
    logger = logging.getLogger(__name__)             # in any module
    logger.info("resuming from step 400")

    2026-11-28 14:02:11 rank 0 INFO resuming from step 400

The main rank logs INFO and above, the other ranks warnings and errors; with
`TINYGSM_LOG_ALL_RANKS=1` all ranks log INFO. Results that a verb prints for people or scripts
(tables, a folder, what `--dry-run` shows) are printed as they are.
"""

import logging
import os

from parallel.ranks import Ranks

_PACKAGES = ("launch", "training", "parallel", "checkpoints")
"""Loggers of this project; those of libraries stay as the libraries set them up."""
_ALL_RANKS = "TINYGSM_LOG_ALL_RANKS"


class _Stdout(logging.Handler):
    """Writes to what `sys.stdout` is now: a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def set_up(ranks: Ranks) -> None:
    """Send this project's log to standard output; a later call replaces an earlier one."""
    handler = _Stdout()
    handler.setFormatter(
        logging.Formatter(
            f"%(asctime)s rank {ranks.rank} %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"
        )
    )
    logs_info = ranks.is_main or os.environ.get(_ALL_RANKS) == "1"
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        for earlier in [known for known in logger.handlers if isinstance(known, _Stdout)]:
            logger.removeHandler(earlier)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if logs_info else logging.WARNING)
