"""The settings of a text experiment that others have not: ``text.*``, typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from strata.curation.errors import ConfigError, StrataError
from strata.curation.text.tokenizer import check_tokenizer_settings
from strata.eval.text.evaluate import SCORERS
from strata.eval.text.tasks import TASKS, task_of
from strata.experiments.settings.build import placed, typed
from strata.experiments.settings.checks import mapping, one_of, whole
from strata.experiments.stage import canonical_json


@dataclass
class TokenizerSettings:
    """``text.tokenizer.*``: trained on a pool, or given by its path."""

    pool: Any = None
    vocab_size: int = 32000
    min_frequency: int = 2
    max_documents: int | None = None
    seed: int = 0
    path: str | None = None
    revision: str | None = None


@dataclass
class HeldOutSettings:
    """``text.held_out.*``: pools whose documents no arm trains on, and how many of each source are scored."""

    pools: dict[str, Any] = field(default_factory=dict)
    per_source: int | None = None
    seed: int = 0


@dataclass
class TaskSettings:
    """``text.tasks.*``: see ``eval/text/evaluate.py``."""

    names: list[str] = field(default_factory=list)
    limit: int | None = None
    shots: int = 5
    seed: int = 0
    scorer: str = "own"


@dataclass
class TextSettings:
    """``text.*``. ``columns``: of the pools, whose balance is reported ("source+topic": both together)."""

    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    held_out: HeldOutSettings = field(default_factory=HeldOutSettings)
    tasks: TaskSettings = field(default_factory=TaskSettings)
    columns: list[str] = field(default_factory=list)


@dataclass
class Decontaminate:
    """``decontaminate.*``. ``against``: tasks; null: all that there are files for."""

    n: int = 13
    against: list[str] | None = None
    remove: bool = True


def check_text(config: Mapping[str, Any]) -> TextSettings:
    """The typed settings.

    Raises:
        ConfigError: one of them cannot be.
    """
    settings = typed(TextSettings, mapping(config, "text"), "text")
    tokenizer = settings.tokenizer
    if (tokenizer.pool is None) == (tokenizer.path is None):
        raise ConfigError("text.tokenizer", "needs a pool to train on, or a path", "give one of the two")
    check_tokenizer_settings(tokenizer.vocab_size, tokenizer.min_frequency, tokenizer.max_documents)
    tasks = settings.tasks
    one_of("text.tasks.scorer", tasks.scorer, SCORERS)
    for name in tasks.names:
        task_of(name)  # raises for an unknown one
    whole("text.tasks.shots", tasks.shots, 0)
    for name, value in (("text.tasks.limit", tasks.limit), ("text.held_out.per_source", settings.held_out.per_source)):
        if value is not None:
            whole(name, value, 1)
    check_decontaminate(config)
    return settings


def check_decontaminate(config: Mapping[str, Any]) -> Decontaminate | None:
    """The typed settings of decontamination; None where it is off."""
    if config.get("decontaminate") is None:
        return None
    settings = typed(Decontaminate, mapping(config, "decontaminate"), "decontaminate")
    whole("decontaminate.n", settings.n, 2)
    settings.against = sorted(TASKS) if settings.against is None else settings.against
    for name in settings.against:
        if name not in TASKS:
            raise ConfigError("decontaminate.against", f"{name!r} is unknown", f"use some of {', '.join(TASKS)}")
    return settings


def check_recipe(settings: Mapping[str, Any], vocab_size: int, field_name: str) -> tuple[Any, int]:
    """The typed recipe, and the parameters of its network (made without memory for its weights).

    Raises:
        ConfigError: names ``<field_name>.<setting>``.
    """
    try:
        return _recipe(canonical_json(settings), vocab_size)
    except StrataError as error:
        raise placed(error, field_name) from None


@cache
def _recipe(settings_json: str, vocab_size: int) -> tuple[Any, int]:
    import json

    import torch

    from strata.ssl.text.config import TextSSLConfig
    from strata.ssl.text.model import create_model

    recipe = typed(TextSSLConfig, json.loads(settings_json), "ssl")
    recipe.micro_batch(recipe.devices)
    with torch.device("meta"):
        model = create_model(recipe, vocab_size, 0, 1, None)
    return recipe, sum(parameter.numel() for parameter in model.parameters())
