"""Write the atlas of a curation: gather the numbers, then spend what is left of the size on pictures or texts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strata.curation.atlas.choose import gather, losers, requests
from strata.curation.atlas.exemplars import Exemplars, with_distances
from strata.curation.atlas.items import Items
from strata.curation.atlas.labels import compose, label_name, whole_pool
from strata.curation.atlas.mass import fates, mass_curve
from strata.curation.atlas.nodes import LevelCounts, LevelNodes, count_rows, shown_nodes
from strata.curation.atlas.page import render
from strata.curation.atlas.provenance import balanced_quotas, stage_record
from strata.curation.errors import ConfigError, DataError
from strata.curation.footprints import draw_footprints, footprints_of
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.base import Pool
from strata.curation.store import EmbeddingStore
from strata.curation.subset import Selection, read_subset


@dataclass(frozen=True)
class Limits:
    """What keeps the file small, whatever the size of the pool.

    Attributes:
        max_bytes: of the file. Numbers take at most half of it, exemplars what is left.
        max_items: pictures or texts. Those of dropped rows come first, then of upper levels, then of leaves.
        max_nodes: clusters of a level in the browser, the largest ones. Sums, curves and KL are always of all.
        per_kind: closest, random and furthest rows of a cluster, each at most so many.
    """

    max_bytes: int = 18_000_000
    max_items: int = 6000
    max_nodes: int = 150_000
    per_kind: int = 5

    def __post_init__(self) -> None:
        for name, least in (("max_bytes", 200_000), ("max_items", 0), ("max_nodes", 1), ("per_kind", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"atlas.{name}", f"{getattr(self, name)} is too small", f"use {least:,} or more")


def write_atlas(
    path: str | Path,
    hierarchy: Hierarchy | str | Path,
    selection: Selection | str | Path,
    *,
    pool: Pool | None = None,
    embeddings: EmbeddingStore | ArrayLike | str | Path | None = None,
    labels: ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    title: str | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    records: Sequence[str | Path] = (),
) -> Path:
    """Write one self-contained HTML file that shows a curation. The same input gives the same bytes.

    Folders (of stages or of ``write_subset``, ``Hierarchy.save``, ``embed``) also tell how they were made.

    Args:
        path: of the file; one that is there is replaced.
        hierarchy: of the pool, or its folder.
        selection: the rows kept, or a subset folder.
        pool: items are PIL images or str, row for row those that were clustered; without it the page shows ids.
        embeddings: of the pool. Rows are read only if the hierarchy has no distances.
        labels, label_names, ids: default: those of the pool, else of the embedding store.
        title: default: the name of the pool.
        limits: of the file's size.
        seed: of the random exemplars.
        records: further artifact folders that tell how it was made, e.g. the inventory of the pool.

    Raises:
        DataError: hierarchy, selection, pool and embeddings are not of the same rows, or an item is of another type.
    """
    folders = [place for place in (*records, embeddings, hierarchy, selection) if isinstance(place, str | Path)]
    stages = [stage_record(folder) for folder in folders]
    tree = hierarchy if isinstance(hierarchy, Hierarchy) else Hierarchy.load(hierarchy)
    kept = selection if isinstance(selection, Selection) else read_subset(selection)
    if isinstance(embeddings, str | Path):
        embeddings = EmbeddingStore.open(embeddings)
    store = embeddings if isinstance(embeddings, EmbeddingStore) else None
    _check_rows(tree, kept, pool, embeddings, labels, ids)
    if embeddings is not None and any(level.distance is None for level in tree.levels):
        tree = with_distances(tree, embeddings)  # type: ignore[arg-type]
    source = pool if pool is not None else store
    own = np.asarray(labels, np.int64) if labels is not None else getattr(source, "labels", None)
    own = None if own is None or not (own >= 0).any() else own
    if label_names is None and pool is not None:
        label_names = pool.label_names
    elif label_names is None and store is not None:
        label_names = store.manifest.get("label_names")
    curation = Curation(
        tree=tree,
        selection=kept,
        quotas=balanced_quotas(tree, kept, next((s["config"] for s in stages if s["kind"] == "subset"), None)),
        labels=own,
        label_names=label_names,
    )
    about = {
        "title": title or getattr(pool, "name", None) or (store and store.manifest["pool"].get("name")) or "a pool",
        "pool": pool.describe() if pool is not None else dict(store.manifest["pool"]) if store else {},
        "encoder": dict(store.manifest["encoder"]) if store else {},
        "dim": store.shape[1] if store else None,
        "stages": stages,
        "map": _map(pool, kept),
    }
    ids = ids if ids is not None else getattr(source, "ids", None)
    items = Items(pool, ids, own, curation.copies, label_names=label_names)
    page = curation.page(about, items, limits or Limits(), seed)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


def _map(pool: Pool | None, kept: Selection) -> str | None:
    """A picture of where kept and dropped items lie, as a data URI; None where the pool knows of no place."""
    footprints = None if pool is None else footprints_of(pool)
    if footprints is None:
        return None
    rows = np.intersect1d(kept.rows, footprints["row"].to_numpy())
    return f"data:image/png;base64,{base64.b64encode(draw_footprints(footprints, rows)).decode()}"


@dataclass(frozen=True)
class Curation:
    """A tree over the rows of a pool and the rows kept."""

    tree: Hierarchy
    selection: Selection
    quotas: Sequence[NDArray[np.int64]]
    labels: NDArray[np.int64] | None
    label_names: Sequence[str] | None

    @property
    def copies(self) -> NDArray[np.int64]:
        """How often each row of the pool is in the subset, [n]."""
        found = np.zeros(self.tree.n, np.int64)
        found[self.selection.rows] = self.selection.repeats
        return found

    def page(self, about: dict[str, Any], items: Items, limits: Limits, seed: int) -> str:
        """The HTML file, of at most ``limits.max_bytes`` bytes."""
        levels = count_rows(self.tree, self.selection, self.quotas)
        max_nodes = limits.max_nodes
        while True:
            nodes = shown_nodes(self.tree, max_nodes)
            data = about | self._numbers(levels, nodes) | {"items": [], "places": {}}
            size = len(render(about["title"], data).encode())
            if size <= limits.max_bytes // 2 or max_nodes == 1:
                break
            max_nodes //= 2
        if size > limits.max_bytes:
            raise ConfigError("atlas.max_bytes", f"{size:,} bytes without any exemplar", f"use {2 * size:,} or more")
        exemplars = Exemplars(self.tree, limits.per_kind, seed)
        wanted = requests(exemplars, levels, nodes, self.copies, limits.max_items)
        room = limits.max_bytes - size - 4096
        data["items"], data["places"] = gather(wanted, items, limits.max_items, room)
        data["ranked"] = exemplars.ranked
        self._name_labels(data)
        return render(about["title"], data)

    def _numbers(self, levels: Sequence[LevelCounts], nodes: Sequence[LevelNodes]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "n": self.tree.n,
            "rows": len(self.selection),
            "distinct": len(self.selection.rows),
            "levels": [self._level(number, *pair) for number, pair in enumerate(zip(levels, nodes, strict=True), 1)],
            "labels": None,
            "label_names": {},
        }
        if self.labels is not None:
            found["labels"] = whole_pool(self.labels, self.label_names, self.selection)
        self._name_labels(found)
        return found

    def _level(self, number: int, counts: LevelCounts, nodes: LevelNodes) -> dict[str, Any]:
        """Columns of the nodes shown, and what is told of all clusters of the level."""
        ids = nodes.ids
        lost = losers(counts)
        level: dict[str, Any] = {
            "level": number,
            "k": len(counts.before),
            "occupied": int((counts.before > 0).sum()),
            "hidden": nodes.hidden,
            "id": ids.tolist(),
            "start": nodes.start.tolist(),
            "before": counts.before[ids].tolist(),
            "after": counts.after[ids].tolist(),
            "quota": counts.quota[ids].tolist(),
            "distinct": counts.distinct[ids].tolist() if (counts.distinct != counts.after).any() else None,
            "curve": mass_curve(counts.before, counts.after, counts.quota),
            "fates": fates(counts),
            "losers": [[int(c), int(counts.before[c]), int(counts.after[c]), int(counts.lost[c])] for c in lost],
        }
        if self.labels is not None:
            found = compose(self.tree.labels(number), level["k"], self.labels, self.copies)
            top = np.stack([found["label"], found["before"], found["after"]], 2)  # [k, TOP, 3]
            level["top"] = [triples[triples[:, 0] >= 0].ravel().tolist() for triples in top[ids]]
            level["loser_top"] = [triples[triples[:, 0] >= 0].ravel().tolist() for triples in top[lost]]
            for name in ("effective_before", "effective_after"):
                level[name] = np.round(found[name][ids], 2).tolist()
        return level

    def _name_labels(self, data: dict[str, Any]) -> None:
        """Names of the labels that the page shows."""
        if self.labels is None:
            return
        shown = {entry[2] for entry in data.get("items", []) if entry[2] >= 0}
        shown |= {triple[0] for part in ("largest", "rarest") for triple in data["labels"][part]}
        for level in data["levels"]:
            for column in (level["top"], level["loser_top"]):
                shown.update(label for node in column for label in node[::3])
        data["label_names"] = {str(label): label_name(self.label_names, label) for label in sorted(shown)}


def _check_rows(
    tree: Hierarchy, kept: Selection, pool: Any, embeddings: Any, labels: ArrayLike | None, ids: Sequence[str] | None
) -> None:
    """Raise a DataError unless all are of the rows of the hierarchy."""
    sized = {"pool": pool, "embeddings": embeddings, "labels": labels, "ids": ids}
    for name, value in sized.items():
        if value is not None and len(value) != tree.n:
            raise DataError(
                f"{name}: {len(value)} rows, but the hierarchy has {tree.n}; give those that were clustered"
            )
    if len(kept.rows) and kept.rows[-1] >= tree.n:
        raise DataError(f"selection: row {kept.rows[-1]}, but the hierarchy has {tree.n}; give a subset of this pool")
