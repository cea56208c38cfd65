"""The command line every verb shares: config files and `section.key=value` overrides.

    python launch/train.py configs/generator_1b3.toml optimizer.learning_rate=2e-4
    python launch/train.py configs/generator_1b3.toml --dry-run --ranks 32

Launchers add options of their own (`--local_rank=3`); they are accepted and ignored,
ranks are found from the environment (parallel/launchers.py).
"""

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel

from parallel.ranks import ALONE, PeerFailed, Ranks, discover
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.config import ConfigError, load
from training.errors import is_for_people
from training.lifecycle.signals import EXIT_STOPPED, Stopped
from training.monitoring import console

if TYPE_CHECKING:
    from training.stages.stage import Stage

ConfigType = TypeVar("ConfigType", bound=BaseModel)

DEFAULT_CONFIG = str(Path(__file__).parent.parent / "configs" / "generator_demo.toml")
"""What train, prepare and plan take without a config file."""

EXIT_BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """Takes settings before, between and after options: people write them in any order."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line as any other bad input: argparse prints usage per rank."""
        raise ConfigError(f"{message} (see --help)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `ArgumentParser`'s."""
        parsed = self.parse_intermixed_args(args, namespace)
        if getattr(parsed, "ranks", None) is not None and not parsed.dry_run:
            self.error("--ranks is for --dry-run: ranks are started by a launcher")
        return parsed


def plain_parser(description: str, *, reads_only: bool = False) -> argparse.ArgumentParser:
    """The parser of a verb that takes no config; `--dry-run` alone is in it.

    Args:
        description: The verb's.
        reads_only: Whether the verb only reads and reports.
    """
    made = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    does = "only check, and print what would be done; nothing is written or started"
    if reads_only:
        does = "write nothing; this verb only reads in any case"
    made.add_argument("--dry-run", action="store_true", help=does)
    return made


def parser(
    description: str, default_file: str | None, *, reads_only: bool = False
) -> argparse.ArgumentParser:
    """The parser of a verb; it may add options of its own before parsing."""
    made = plain_parser(description, reads_only=reads_only)
    if not reads_only:
        made.add_argument(
            "--ranks",
            type=int,
            metavar="N",
            help="processes that --dry-run plans for (default: as many as were started)",
        )
    made.add_argument(
        "settings",
        nargs="*",
        metavar="FILE.toml | section.key=value",
        help="config files, merged left to right, then overrides"
        + (f"; without a file: {default_file}" if default_file else ""),
    )
    made.add_argument("--local_rank", "--local-rank", default=None, help=argparse.SUPPRESS)
    made.set_defaults(default_file=default_file)
    return made


def config_of(
    arguments: argparse.Namespace, kind: type[ConfigType], *, saved_model: str = ""
) -> ConfigType:
    """Load the config that the parsed command line names.

    Args:
        arguments: The parsed command line.
        kind: The config's class.
        saved_model: See `load`.

    Raises:
        ConfigError: no file, or something in the files or overrides is wrong.
    """
    return load(kind, *_settings(arguments), saved_model=saved_model)


def _settings(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Config files and overrides of a command line."""
    files = [text for text in arguments.settings if "=" not in text]
    overrides = [text for text in arguments.settings if "=" in text]
    if not files:
        if arguments.default_file is None:
            raise ConfigError("no config file: name at least one FILE.toml")
        files = [arguments.default_file]
    return files, overrides


def run_stage(stage: "Stage[Any]", arguments: argparse.Namespace) -> int:
    """Run a stage as the command line says; 0: finished, 130: stopped by a signal, resumable.

    Args:
        stage: The stage on its config.
        arguments: The parsed command line; with `--dry-run` what would be done is printed.

    Raises:
        ConfigError, FileNotFoundError, FileExistsError: it cannot run as configured.
    """
    if arguments.dry_run:
        return _dry_run(stage, arguments)
    ranks = discover() if stage.runs_on_ranks else ALONE
    array_task = getattr(arguments, "array_task", ONLY_TASK)
    try:
        stage.run(ranks, array_task)
    except Stopped:
        return _stopped(ranks)
    finally:
        ranks.disconnect()
    return 0


def _dry_run(stage: "Stage[Any]", arguments: argparse.Namespace) -> int:
    """Print what a stage would do, on the first of the ranks that were started."""
    # Read, not exported: nothing is opened.
    ranks = discover(os.environ)
    if not ranks.is_main:
        return 0
    from training.stages.dry_run import dry_run

    num_ranks = arguments.ranks
    if num_ranks is None:  # a recipe starts its own
        num_ranks = getattr(stage.config, "num_ranks", ranks.world_size)
    if num_ranks < 1:
        raise ConfigError(f"--ranks {num_ranks}: a run has at least 1 rank")
    files, overrides = _settings(arguments)
    # All lines before the first is printed: an error is then the only output.
    print("\n".join(dry_run(stage, num_ranks=num_ranks, files=files, overrides=overrides)))
    return 0


def add_array_task(options: argparse.ArgumentParser) -> None:
    """Add `--array-task`, for jobs that make the parts of one stage together."""
    options.add_argument(
        "--array-task",
        type=_array_task,
        default=ONLY_TASK,
        metavar="I/N",
        help="make every N-th part only, from the I-th; the last of N jobs finishes the stage",
    )


def _array_task(text: str) -> ArrayTask:
    try:
        return ArrayTask.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _stopped(ranks: Ranks) -> int:
    """The exit code of a run that a signal stopped after saving, when all ranks are there.

    srun kills the other ranks as soon as the first leaves with a code that is not 0: the first
    rank may be sending W&B its last numbers. A rank's code can be lost at its very end, hence
    the file by which a job script knows that the run may start again (slurm/common.sh).
    """
    if ranks.is_main and (path := os.environ.get("TINYGSM_STOPPED_FILE")):
        Path(path).touch()
    ranks.barrier()
    return EXIT_STOPPED


def _output_is_closed() -> bool:
    """Whether the reader of standard output has closed it, as `| head` does.

    Further output is then discarded, so that flushing at exit does not fail.
    """
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)  # POLLERR and POLLHUP are reported without being asked for
    is_closed = bool(poll.poll(0))
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return is_closed


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a verb and end the process with its exit code.

    What a person can correct (a wrong setting, a missing file, a full disk) ends all ranks with
    one message and code 2, Ctrl-C with one line and code 130; anything else keeps its traceback:
    it is our bug.
    """
    verb = os.path.basename(sys.argv[0])
    try:
        ranks = discover(os.environ)
    except ConfigError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    console.set_up(ranks)
    try:
        with ranks.failing_together():
            code = main(sys.argv[1:])
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        code = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        code = EXIT_STOPPED
        if ranks.is_main:
            print(f"{verb}: interrupted; the same command resumes from here", file=sys.stderr)
    except Exception as error:
        if not is_for_people(error):
            raise
        code = EXIT_BAD_INPUT
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        which = "" if ranks.is_main or isinstance(error, PeerFailed) else f"rank {ranks.rank}: "
        message = f"{verb}: {which}{error}"
        ranks.report_failure(lambda: print(message, file=sys.stderr, flush=True))
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
