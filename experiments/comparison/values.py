"""One number of one run, and the long list of them as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Value:
    """One number of one run. ``value`` is None for what was not run."""

    arm: str
    seed: int
    group: str  # "data" or the benchmark's name
    metric: str  # "images", a balance measure, or protocol and metric as "knn-v1 top1"
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    stage: str = ""  # key of the stage that made it


def by_seed(values: Sequence[Value], arm: str, group: str, metric: str) -> dict[int, float]:
    """seed -> value of one cell; seeds that were not run are absent."""
    return {
        v.seed: v.value
        for v in values
        if v.arm == arm and v.group == group and v.metric == metric and v.value is not None
    }


def write_values(values: list[Value], path: Path) -> None:
    """The long list as CSV: one row per number, with the key of its stage for `strata why`."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Value)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(value) for value in values)


def read_values(path: Path) -> list[Value]:
    """What ``write_values`` wrote."""
    with open(path, newline="") as stream:
        return [_value(row) for row in csv.DictReader(stream)]


def _value(row: dict[str, str]) -> Value:
    value, low, high = (float(row[name]) if row[name] else None for name in ("value", "ci_low", "ci_high"))
    n = int(row["n"]) if row["n"] else None
    return Value(row["arm"], int(row["seed"]), row["group"], row["metric"], value, low, high, n, row["stage"])
