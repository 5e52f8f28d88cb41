"""Data that is not here: planned by the sizes that its config declares, refused when something would read it.

A pool's node may say ``declared: {n, kind}``, a benchmark's ``declared: {splits: {train, test, ...}}``, an encoder's, for weights
that have to be fetched, ``declared: {dim, reads}``. ``strata plan`` and
``strata table`` put a stand-in where such data cannot be opened; ``strata run`` does not, so that it is refused as it always is,
before anything is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, StrataError
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_json
from strata.experiments.settings.build import build

HERE = "strata.experiments.declared"
_TASKS = {"RetrievalBenchmark": "retrieval", "Benchmark": "classification"}


@dataclass
class DeclaredPool:
    """A pool of ``n`` items that cannot be read.

    Attributes:
        name: of the pool.
        n: items.
        kind: of them, see ``content.py``.
    """

    name: str
    n: int
    kind: Kind = "images"
    declared: ClassVar[bool] = True
    labels: None = None
    label_names: None = None

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> Any:
        """Raises a ConfigError: there are no items."""
        raise ConfigError("pool", f"{self.name!r} is only declared; its {self.n:,} items are not here", "point at data")

    def column(self, name: str) -> NDArray[Any]:
        """Empty: it may have one of that name."""
        return np.empty(0)

    @property
    def ids(self) -> Sequence[str]:
        """Raises a ConfigError: there are no items."""
        return [self[0]]

    @property
    def fingerprint(self) -> str:
        """Of the declaration: never that of data."""
        return digest_json(self.describe())

    def describe(self) -> dict[str, Any]:
        """The declaration."""
        return {"reader": "declared", "name": self.name, "n": self.n, "kind": self.kind}


@dataclass
class DeclaredEncoder:
    """An encoder whose weights are not here.

    Attributes:
        name: of it.
        dim: length of an embedding.
        reads: kind of items, see ``content.py``.
    """

    name: str
    dim: int
    reads: Kind = "images"


@dataclass
class DeclaredBenchmark:
    """A benchmark whose data is not here.

    Attributes:
        name: of it.
        sizes: images of each split.
        task: see ``strata.eval.benchmarks``.
        groups: as the benchmark's.
    """

    name: str
    sizes: Mapping[str, int]
    task: str
    groups: Sequence[str] = ()
    splits: dict[str, DeclaredPool] = field(init=False)
    shifts: dict[str, DeclaredPool] = field(init=False)

    def __post_init__(self) -> None:
        self.splits = {split: DeclaredPool(f"{self.name} {split}", n) for split, n in self.sizes.items()}
        self.shifts = {split: pool for split, pool in self.splits.items() if split not in ("train", "test")}


def declare_absent(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with a stand-in for every declared pool, benchmark and encoder that cannot be opened."""
    return {name: _walk(value, name) for name, value in config.items()}


def absent(config: Any) -> list[str]:
    """Names of the stand-ins in a config."""
    if isinstance(config, Mapping):
        own = [config["name"]] if str(config.get("_target_", "")).startswith(HERE) else []
        return list(dict.fromkeys(own + [name for value in config.values() for name in absent(value)]))
    return [name for value in config for name in absent(value)] if isinstance(config, list) else []


def _walk(node: Any, field_name: str) -> Any:
    if isinstance(node, list):
        return [_walk(value, f"{field_name}.{index}") for index, value in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    if "declared" in node and "_target_" in node:
        try:
            build(node, field_name)
        except StrataError:
            return _stand_in(node)
    return {name: _walk(value, f"{field_name}.{name}") for name, value in node.items()}


def _stand_in(node: Mapping[str, Any]) -> dict[str, Any]:
    told = node["declared"]
    name = node.get("name") or told.get("name") or node.get("path") or node.get("model")
    if "dim" in told:
        return {"_target_": f"{HERE}.DeclaredEncoder", "name": name, "dim": told["dim"], "reads": told["reads"]}
    if "splits" in told:
        task = node.get("task") or _TASKS[node["_target_"].rsplit(".", 1)[-1]]
        benchmark = {
            "name": name,
            "sizes": told["splits"],
            "task": task,
            "groups": list(told.get("groups") or node.get("groups") or []),
        }
        return {"_target_": f"{HERE}.DeclaredBenchmark", **benchmark}
    return {"_target_": f"{HERE}.DeclaredPool", "name": name, "n": told["n"], "kind": told.get("kind", "images")}
