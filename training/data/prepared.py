"""Compares what a data folder was prepared from with a config.

    compare(config).check()

The manifest of a data folder holds the settings it was prepared with, and fingerprints of the
files that were read. Settings can be compared anywhere, but fingerprints only where the files are:
a data folder may have been copied to a machine without its sources. Inputs that could not be
compared are listed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from training import files, hub, manifest, remote
from training.config import (
    BenchmarkConfig,
    ConfigError,
    DataConfig,
    PrepareConfig,
    SourceConfig,
    TrainConfig,
    resolved,
)
from training.config.values import CHAT_PROMPT, FUNCTION_PROMPT
from training.data import benchmarks, remote_folder, sources
from training.data.counts import outdated
from training.data.locations import Files
from training.data.parts import STAGE
from training.data.tokenizer import FOLDER as TOKENIZER_FOLDER
from training.data.tokenizer import Tokenizer
from training.errors import DataError, UserError

_TOKENIZER = "data.tokenizer"
_TABLES = ("config", "inputs", "facts")
_LATER_KEYS = ("subset", "question_column", "answer_column")
"""Keys of a benchmark that earlier versions did not have: left out at their defaults, so that what
those versions prepared stays up to date."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The comparison of a data folder with a config that is to use it."""

    folder: Path
    is_prepared: bool
    """Whether the folder holds prepared data at all."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """What its manifest counts."""
    differences: list[str] = field(default_factory=list[str])
    """One line for each setting or input that differs, with both values."""
    not_compared: list[str] = field(default_factory=list[str])
    """Inputs that do not exist on this machine."""

    @property
    def is_current(self) -> bool:
        """Whether the folder is prepared and no difference is known."""
        return self.is_prepared and not self.differences

    def refusal(self) -> str:
        """Why the folder cannot be used with this config, and what to do."""
        if not self.is_prepared:
            return (
                f"data.folder = {self.folder} holds no prepared data: run `python "
                "launch/prepare.py CONFIG` or submit slurm/prepare.sh with the same config first, "
                "or set data.prepare_if_missing = true for small data"
            )
        return (
            f"data.folder = {self.folder} was not prepared as this config says:\n  "
            + "\n  ".join(self.differences)
            + "\nprepare it again with this config (launch/prepare.py, slurm/prepare.sh), set "
            "these back, or set another data.folder"
        )

    def check(self) -> None:
        """Refuse a folder that is not current.

        Raises:
            FileNotFoundError: it holds no prepared data.
            DataError: it was prepared with other settings or inputs; the message lists them.
        """
        if not self.is_prepared:
            raise FileNotFoundError(self.refusal())
        if self.differences:
            raise DataError(self.refusal())

    def note(self) -> str:
        """A sentence that lists what could not be compared; empty if everything was."""
        if not self.not_compared:
            return ""
        return (
            f"{self.folder} was prepared with this config's settings. Its inputs are not on this "
            f"machine and were not compared: {', '.join(self.not_compared)}"
        )


def made_from(config: PrepareConfig) -> dict[str, Any]:
    """The settings that determine the content: not its folder or the number of workers."""
    data = resolved(config.data)
    for key in ("folder", "remote", "num_workers", "prepare_if_missing"):
        del data[key]
    for source in data["sources"]:
        del source["cache_folder"], source["cache_gib"]
        del source["weight"]  # read in training alone
        if not source["columns"]["completion"]:
            for key in ("columns", "form", "extractor", "reward_threshold"):
                del source[key]  # not read
    for entry in data["decontaminate"]:
        for key in _LATER_KEYS:
            if entry[key] == BenchmarkConfig.model_fields[key].default:
                del entry[key]
    if config.data.source_weights:
        data["packs_sources_apart"] = True
    execution = resolved(config.execution)
    del execution["num_workers"]
    if data["prompt_template"] == FUNCTION_PROMPT:
        del data["prompt_template"]  # data that was prepared before there was a choice is the same
    runs_programs = any(map(config.data.runs, config.data.sources))
    return {"data": data, "execution": execution if runs_programs else None}


def inputs(data: DataConfig) -> dict[str, str]:
    """Fingerprints of all files to be read, by the setting that names them.

    Of files of this machine that is a digest of their content; of a hub data set, its commit; of a
    URL, the size and version that the store gives. Nothing is downloaded but the tokenizer.

    Raises:
        DataError: a file is missing, or the hub, a store or the tokenizer cannot be reached.
    """
    found = {key: _fingerprint(find()) for key, _, find in _tables(data, offline=False)}
    if data.tokenizer.source != "train":
        found[_TOKENIZER] = _fingerprint_of(Tokenizer.from_source(data.tokenizer.source), data)
    return {key: value for key, value in found.items() if value}


def compare(config: PrepareConfig) -> Comparison:
    """Compare `data.folder` with what `prepare` would make of a config.

    Of `data.remote`, the manifest alone is read, and not kept; nothing else is downloaded.

    Raises:
        UserError: the folder's manifest or the tokenizer that the config names is damaged, or
            `data.remote` cannot be read.
    """
    folder = config.data.folder
    try:
        made = manifest.read(folder)
    except FileNotFoundError:
        if not config.data.remote:
            return Comparison(folder=folder, is_prepared=False)
        made = remote_folder.read_manifest(config.data.remote)
    if made.get("stage") != STAGE:
        return Comparison(folder=folder, is_prepared=False)
    if missing := [name for name in _TABLES if not isinstance(made.get(name), dict)]:
        raise DataError(
            f"{folder / manifest.MANIFEST} is damaged: {', '.join(missing)} is no JSON object; "
            f"move {folder} away and prepare it again"
        )
    differences = [*manifest.changes(made["config"], made_from(config)).values()]
    if problem := outdated(made["facts"]):
        differences.append(f"it {problem}")
    not_compared: list[str] = []
    for key, path, now in _at_hand(config.data):
        before = made["inputs"].get(key, "")
        if not now:
            not_compared.append(f"{key} ({path})")
        elif now != before:
            was = f"had the fingerprint {before[:12]}" if before else "was not read from files"
            differences.append(f"{key} ({path}) {was}, has {now[:12]}")
    return Comparison(
        folder=folder,
        is_prepared=True,
        facts=made["facts"],
        differences=[*differences, *_damaged(config.data, made)],
        not_compared=not_compared,
    )


def _damaged(data: DataConfig, made: dict[str, Any]) -> list[str]:
    """Files of another size than the manifest lists; of remote data not those yet to be fetched."""
    outputs = made["outputs"]
    if data.remote:
        outputs = {name: outputs[name] for name in outputs if (data.folder / name).exists()}
    return manifest.damaged_outputs(data.folder, {"outputs": outputs})


def _tables(
    data: DataConfig, *, offline: bool
) -> Iterator[tuple[str, str, Callable[[], Sequence[Files]]]]:
    """All inputs that are tables: the setting, its path, and a function that finds the files."""
    for number, source in enumerate(data.sources):
        if source.kind != "problems":
            find = partial(_files_of_source, source, offline=offline)
            yield f"data.sources.{number}", source.path, find
    for number, entry in enumerate(data.decontaminate):
        if entry.kind != "problems":
            find = partial(benchmarks.found_at, entry, offline=offline)
            yield f"data.decontaminate.{number}", entry.location, find


def _files_of_source(source: SourceConfig, *, offline: bool) -> list[Files]:
    return [sources.found_at(source, offline=offline)]


def _at_hand(data: DataConfig) -> Iterator[tuple[str, str, str]]:
    """Setting, path and fingerprint of every input; the last is empty for a missing input."""
    for key, path, find in _tables(data, offline=True):
        try:
            # A URL may be out of reach, and asking takes long then.
            yield key, path, "" if remote.is_url(path) else _fingerprint(find())
        except UserError:
            yield key, path, ""
    if (source := data.tokenizer.source) != "train":
        try:
            folder = hub.local_path(source, _TOKENIZER)
        except UserError:
            folder = None
        yield _TOKENIZER, source, _fingerprint_of(Tokenizer.load(folder), data) if folder else ""


def _fingerprint_of(tokenizer: Tokenizer, data: DataConfig) -> str:
    """A digest of the tokenizer, and of its chat template where prompts are made with it."""
    if data.prompt_template != CHAT_PROMPT:
        return tokenizer.fingerprint
    template = tokenizer.with_template(CHAT_PROMPT).template
    return files.sha256_json([tokenizer.fingerprint, template.fingerprint])


def _fingerprint(found: Sequence[Files]) -> str:
    """A digest of what was found; of several splits, of all their files."""
    if len(found) == 1:
        return found[0].fingerprint()
    location = found[0].location
    return location.fingerprint([name for files in found for name in files.names])


def tokenizer_of(config: TrainConfig) -> Tokenizer:
    """The prepared data's tokenizer, with its prompt template.

    Raises:
        ConfigError: it has ids that the model has no embedding for.
    """
    tokenizer = Tokenizer.load(config.data.folder / TOKENIZER_FOLDER)
    if tokenizer.vocab_size > config.model.vocab_size:
        raise ConfigError(
            f"model.vocab_size = {config.model.vocab_size} is below the tokenizer's "
            f"{tokenizer.vocab_size} ids: set at least that many"
        )
    return tokenizer.with_template(config.data.prompt_template)
