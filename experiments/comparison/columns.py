"""Columns that are compared with the paper's: a name, which of our numbers it is, and which way is better."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.printed import Printed, printed_numbers
from strata.experiments.comparison.values import Value, by_seed

# Last words of metrics that are no shares of 1, so that they are not shown in percent
PLAIN = ("rmse", "mae", "miou", "rmse_pixels", "bits_per_byte", "r2", "block_r2", "bias", "effective_classes",
         "effective_rank", "normalized_entropy", "images", "coverage")  # fmt: skip

LENGTHS = ("mae", "rmse", "bias")  # in metres


@dataclass(frozen=True)
class Column:
    """One measure.

    Attributes:
        name: ours, as claims name it.
        parts: (group, metric) of our values, whose mean it is: a benchmark, a measure, or "data"; e.g. "knn-v1 top1".
        lower: whether less is better.
        printed_as: the paper's name of it.
        percent: shown and compared in percent (our values are shares).
    """

    name: str
    parts: tuple[tuple[str, str], ...]
    lower: bool
    printed_as: str
    percent: bool

    @property
    def digits(self) -> int:
        """Decimals that tables show: one of percents and of heights, three of depths (a room's error is 0.3 m)."""
        return 1 if self.percent or (self.length and self.parts[0][1].startswith("height-")) else 3

    @property
    def length(self) -> bool:
        """Whether it is in metres."""
        return _is(self.parts[0][1], LENGTHS)

    def of(self, values: Sequence[Value], arm: str) -> dict[int, float]:
        """seed -> value of an arm, in the column's unit; only seeds that have every part."""
        found = [by_seed(values, arm, group, metric) for group, metric in self.parts]
        scale = (100.0 if self.percent else 1.0) / len(found)
        shared = set.intersection(*[set(part) for part in found])
        return {seed: scale * sum(part[seed] for part in found) for seed in sorted(shared)}


@dataclass(frozen=True)
class Paper:
    """The numbers of one of the paper's tables under our names."""

    file: str
    arms: Mapping[str, str]  # ours -> theirs

    def numbers(self, arm: str, column: Column) -> list[Printed]:
        """What is printed of one of our arms; empty where the paper has nothing."""
        if not self.file or arm not in self.arms:
            return []
        return printed_numbers(self.file).get((self.arms[arm], column.printed_as), [])

    def value(self, arm: str, column: Column) -> float | None:
        """The first source's number."""
        found = self.numbers(arm, column)
        return found[0].value if found else None


def columns_of(config: Mapping[str, Any]) -> dict[str, Column]:
    """``columns``: name -> [group, metric], or {mean: [[group, metric], ...]}; with "lower" as a last word, or lower: true.

    A name that the paper has is in the paper's unit.

    Raises:
        ConfigError: an entry of another shape.
    """
    printed = config.get("printed") or {}
    renamed = printed.get("columns") or {}
    table = printed_numbers(printed["file"]) if printed.get("file") else {}
    units = {name: numbers[0] for (_, name), numbers in table.items()}
    found = {}
    wanted = config["table"].get("columns")
    for name, told in (config.get("columns") or {}).items():
        if wanted is not None and name not in wanted:
            continue
        parts, lower = _parts(told, f"columns.{name}")
        theirs = renamed.get(name, name)
        percent = is_share(parts[0][1]) and config.get("ssl") is not None
        percent = units[theirs].percent if theirs in units else percent
        found[name] = Column(name, parts, lower, theirs, percent)
    return found


def shown_columns(values: Sequence[Value], config: Mapping[str, Any]) -> list[Column]:
    """The scores of a trained experiment's main table: ``columns``, or all metrics that ``table.metrics`` names."""
    if config.get("columns"):
        return [column for column in columns_of(config).values() if column.parts[0][0] != "data"]  # those are shown
    found = dict.fromkeys((v.group, v.metric) for v in values if v.group != "data")
    wanted = [(g, m) for g, m in found if m.split(" ")[-1] in config["table"]["metrics"]]
    return [Column(f"{m}, {g}", ((g, m),), False, "", is_share(m)) for g, m in wanted]


def column_means(values: Sequence[Value], config: Mapping[str, Any]) -> dict[str, float]:
    """ "ARM/COLUMN" -> mean over seeds in the column's unit, of all ``columns`` and arms that have scores."""
    found = {}
    for name, column in columns_of(config).items():
        for arm in dict.fromkeys(value.arm for value in values):
            if numbers := column.of(values, arm):
                found[f"{arm}/{name}"] = statistics.fmean(numbers.values())
    return found


def is_share(metric: str) -> bool:
    """Whether a metric is a share of 1, which tables show in percent; on shifted test sets (``mae_ood``) as on others."""
    return not _is(metric, PLAIN)


def _is(metric: str, names: Sequence[str]) -> bool:
    """Whether a metric is one of these, on the test set or on a shifted one (``mae_far``)."""
    word = metric.split(" ")[-1]
    return any(word == name or word.startswith(f"{name}_") for name in names)


def _parts(told: Any, field: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    if isinstance(told, Mapping) and set(told) <= {"mean", "lower"} and told.get("mean"):
        return tuple(_parts(part, field)[0][0] for part in told["mean"]), bool(told.get("lower"))
    fine = isinstance(told, list) and len(told) in (2, 3) and all(isinstance(word, str) for word in told)
    if not fine or (len(told) == 3 and told[2] != "lower"):
        raise ConfigError(field, f"{told!r}", "give [benchmark, metric] or [benchmark, metric, lower]")
    return ((told[0], told[1]),), len(told) == 3


def paper_of(config: Mapping[str, Any]) -> Paper:
    """``printed``: the paper's table, and which of its arms ours are (those of the same name, if nothing is said).

    Raises:
        ConfigError: an arm or a column that the paper's table or the experiment has not.
    """
    printed = config.get("printed") or {}
    if not printed:
        return Paper("", {})
    numbers = printed_numbers(printed.get("file"))
    theirs = {arm for arm, _ in numbers}
    arms = printed.get("arms") or {arm: arm for arm in config["arms"] if arm in theirs}
    for ours, arm in arms.items():
        if arm not in theirs:
            raise ConfigError(f"printed.arms.{ours}", f"{arm!r} is no arm of the paper's {printed['file']}",
                              f"use one of {', '.join(sorted(theirs))}")  # fmt: skip
    known = {column for _, column in numbers}
    for ours, column in (printed.get("columns") or {}).items():
        if column not in known:
            raise ConfigError(f"printed.columns.{ours}", f"{column!r} is no column of the paper's {printed['file']}",
                              f"use one of {', '.join(sorted(known))}")  # fmt: skip
    return Paper(printed["file"], {ours: arm for ours, arm in arms.items() if ours in config["arms"]})
