"""How much each part of `python -m tests.bench` measures: short by default, tiny with `--toy`.

Any of these is set on the command line as `part.name=value`:

    python -m tests.bench --only training training.turns=9
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training beside transformers' Trainer and TRL."""

    examples: int = 4000
    """Problems that are written and prepared."""
    turns: int = 4
    """Of every way; one more before them is not counted."""
    demo_steps: int = 16
    """Updates in a turn, the demo's model."""
    larger_steps: int = 4
    """Updates in a turn, the model of ten times its parameters; 0: it is left out."""


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """Operators of an update."""

    examples: int = 4000
    demo_steps: int = 16
    """Updates of the demo's model."""
    larger_steps: int = 4
    """Updates of the model of ten times its parameters; 0: it is left out."""


@dataclass(frozen=True, kw_only=True)
class Startup:
    """From starting the command to the end of the first update."""

    examples: int = 4000
    rounds: int = 4


@dataclass(frozen=True, kw_only=True)
class Loader:
    """The loader beside those of other projects."""

    sequences: int = 16_384
    """Of 1,024 tokens, in the files that every loader reads."""
    rounds: int = 4
    """The first fills caches and is not counted, unless it is the only one."""
    batches: int = 300
    """Of 16 sequences, in the steady state."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Several ranks over gloo."""

    examples: int = 4000
    most: int = 4
    """Ranks: 1, 2, 4 ... up to these."""
    rounds: int = 2
    """All numbers of ranks in each."""
    turns: int = 3
    """Of every way in each round; one more before them is not counted."""
    steps: int = 8
    """Updates in a turn."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Checkpoints beside torch's."""

    examples: int = 4000
    hidden_size: int = 640
    num_layers: int = 10
    turns: int = 5
    most_ranks: int = 8
    """On the slow file system: 1, 2, 4 ... up to these."""


Sizes = Training | Profiles | Startup | Loader | Ranks | Saving

SHORT: dict[str, Sizes] = {
    "training": Training(),
    "profiles": Profiles(),
    "startup": Startup(),
    "loader": Loader(),
    "ranks": Ranks(),
    "saving": Saving(),
}
TOY: dict[str, Sizes] = {
    "training": Training(examples=300, turns=1, demo_steps=2, larger_steps=0),
    "profiles": Profiles(examples=300, demo_steps=2, larger_steps=0),
    "startup": Startup(examples=300, rounds=1),
    "loader": Loader(sequences=64, rounds=1, batches=2),
    "ranks": Ranks(examples=300, most=2, rounds=1, turns=1, steps=2),
    "saving": Saving(examples=300, hidden_size=64, num_layers=2, turns=1, most_ranks=2),
}


def sizes_of(part: str, *, toy: bool, overrides: Sequence[str]) -> Sizes:
    """A part's sizes; overrides of other parts are passed over.

    Raises:
        ValueError: an override is not `part.name=integer`, or names nothing.
    """
    sizes = (TOY if toy else SHORT)[part]
    changed: dict[str, int] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        section, _, name = key.partition(".")
        if section not in SHORT or not value.isdigit():
            raise ValueError(
                f"{override!r} is not part.name=integer with one of {', '.join(SHORT)}"
            )
        if section != part:
            continue
        names = [field.name for field in fields(sizes)]
        if name not in names:
            raise ValueError(f"{override!r}: {part} has {', '.join(names)}")
        changed[name] = int(value)
    return replace(sizes, **changed)
