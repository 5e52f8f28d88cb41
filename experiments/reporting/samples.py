"""A few items of what each arm trains on, and of the largest clusters behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from strata.curation.atlas.exemplars import Exemplars
from strata.curation.atlas.items import Items
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.base import Pool
from strata.curation.pools.inventory import readable
from strata.curation.subset import read_subset
from strata.experiments.planning.plan import Plan, Run
from strata.experiments.settings.build import build
from strata.experiments.store import Store

PER_ARM = 28
CLUSTERS = 6
PER_CLUSTER = 14


@dataclass(frozen=True)
class Strip:
    """A row of items: (kind, content) as ``atlas.items`` makes them."""

    title: str
    note: str
    items: list[tuple[str, str]]


def strips(plan: Plan, store: Store) -> Iterator[Strip]:
    """Random items of each arm's subset under the first seed; then the largest top clusters of its hierarchy, if it has one.

    Arms without a finished subset are left out, as are pools of vectors, which show nothing.
    """
    seed = plan.runs[0].seed
    for run in plan.runs:
        if run.seed != seed or run.sample.kind != "sample" or not store.done(run.sample):
            continue
        pool = _pool(run, store)
        if getattr(pool[0], "ndim", 3) == 1:  # a vector or a point is nothing to look at
            continue
        selection = read_subset(store.path(run.sample))
        copies = np.zeros(len(pool), dtype=np.int64)
        copies[selection.rows] = selection.repeats
        items = Items(pool, None, None, copies, side=64)
        drawn = np.random.default_rng(0).choice(selection.rows, min(PER_ARM, len(selection.rows)), replace=False)
        note = f"{len(selection):,} of {len(pool):,} items; {len(drawn)} of them, drawn at random"
        yield Strip(run.arm, note, _shown(items, np.sort(drawn).tolist()))
        if "hierarchy" in run.sample.inputs and store.done(run.sample.inputs["hierarchy"]):
            yield from _clusters(run, store, items, copies)


def _clusters(run: Run, store: Store, items: Items, copies: np.ndarray) -> Iterator[Strip]:
    hierarchy = Hierarchy.load(store.path(run.sample.inputs["hierarchy"]))
    top, exemplars = hierarchy.n_levels, Exemplars(hierarchy, PER_CLUSTER, 0)
    sizes = hierarchy.sizes(top)
    for cluster in np.argsort(-sizes, kind="stable")[:CLUSTERS].tolist():
        closest, drawn, _ = exemplars.of(top, cluster)
        kept = int(copies[exemplars.rows_of(top, cluster)].sum())
        note = f"{int(sizes[cluster]):,} items of the pool, {kept:,} of the subset"
        yield Strip(f"{run.arm}: top cluster {cluster}", note, _shown(items, (closest or drawn)[:PER_CLUSTER]))


def _shown(items: Items, rows: list[int]) -> list[tuple[str, str]]:
    entries: list[Any] = [items.entry(row) for row in rows]
    return [(entry[4], entry[5]) for entry in entries]


def _pool(run: Run, store: Store) -> Pool:
    return readable(build(run.sample.runtime["pools"]["pool"], "pool"), store.path(run.sample.inputs["pool"]))
