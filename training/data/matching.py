"""Refuses models and data that do not match: other tokenizers, or prompts of another form."""

from collections.abc import Mapping
from pathlib import Path

from training import manifest
from training.config import DataConfig
from training.data.tokenizer import Tokenizer
from training.errors import DataError

GENERATORS_TOKENIZER = "tokenizer"
"""Of the facts of sampled candidates: the `identity` of their generators' tokenizer."""


def refuse_different(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Refuse models and data whose tokenizers give different ids.

    Args:
        tokenizers: Tokenizers by the setting, with its value, of the model or data they are of.

    Raises:
        DataError: two of them differ; says in what.
    """
    named = list(tokenizers.items())
    for name, tokenizer in named[1:]:
        if difference := named[0][1].difference(tokenizer):
            raise DataError(
                f"{named[0][0]} and {name} have different tokenizers, so that the same id means "
                f"different texts: {difference}; name a model and data of one tokenizer"
            )


def refuse_other_prompts(
    wanted: Tokenizer, models: Mapping[str, Tokenizer], *, setting: str = "data.prompt_template"
) -> None:
    """Refuse models that were trained on other prompts than they would be given.

    Args:
        wanted: A tokenizer with the template of the prompts.
        models: Tokenizers by the setting, with its value, of the model they are of. Models of
            which no template is recorded are not compared.

        setting: The setting that chose the template.

    Raises:
        DataError: a template differs; names both.
    """
    for name, model in models.items():
        if not model.knows_template or model.template.fingerprint == wanted.template.fingerprint:
            continue
        mine, others = wanted.template.setting, model.template.setting
        differing = f"{setting} = {mine!r}, and {name} was trained with "
        differing += f"{others!r}" if mine != others else "another chat template"
        raise DataError(
            f"{differing}: the model would see prompts of another form; set the same template, or "
            "name another model"
        )


def refuse_other_generators(data: DataConfig, tokenizer: Tokenizer) -> None:
    """Refuse candidates of generators with another tokenizer, where `sample` recorded theirs.

    Raises:
        DataError: says what differs.
    """
    for number, source in enumerate(data.sources):
        if source.kind != "candidates" or not (Path(source.path) / manifest.MANIFEST).is_file():
            continue
        facts = manifest.read(Path(source.path)).get("facts") or {}
        theirs, ours = facts.get(GENERATORS_TOKENIZER) or {}, tokenizer.identity()
        if differing := [name for name in theirs if theirs[name] != ours.get(name)]:
            name = differing[-1]  # the fingerprint, which says least, comes first
            raise DataError(
                f"data.sources.{number}.path = {source.path} was sampled by generators with "
                f"another tokenizer than data.tokenizer.source = {data.tokenizer.source}: its "
                f"{name} is {theirs[name]!r}, not {ours[name]!r}; name the generators' tokenizer"
            )
