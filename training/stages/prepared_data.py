"""The prepared data of a training config: whether it is there and made from this config."""

from collections.abc import Iterator
from functools import cached_property

from training.config import PrepareConfig, TrainConfig
from training.data import parts, prepared
from training.errors import UserError
from training.stages.readable import messages


class PreparedData:
    """What lies in `data.folder`, compared once with what a config describes."""

    def __init__(self, config: TrainConfig) -> None:
        self.wanted = PrepareConfig(data=config.data, execution=config.execution)

    @cached_property
    def _compared(self) -> prepared.Comparison | UserError:
        try:
            return prepared.compare(self.wanted)
        except UserError as error:
            return error

    @property
    def comparison(self) -> prepared.Comparison | None:
        """None: the folder's manifest is damaged, which `problems` reports."""
        return None if isinstance(self._compared, UserError) else self._compared

    @property
    def is_to_prepare(self) -> bool:
        """Whether there is nothing, or something that is made from other settings or files."""
        return self.comparison is not None and not self.comparison.is_current

    def problems(self, *, may_prepare: bool) -> Iterator[str]:
        """Why the data cannot be used, nor prepared where that is allowed."""
        if isinstance(self._compared, UserError):
            yield str(self._compared)
        elif not self._compared.is_current and not may_prepare:
            yield self._compared.refusal()
        elif not self._compared.is_current:
            yield from messages(lambda: parts.refuse_data(self.wanted.data.folder))

    def notes(self) -> list[str]:
        """Inputs of current data that are not on this machine, so that they are not compared."""
        found = self.comparison
        return [found.note()] if found and found.is_current and found.note() else []
