"""The counterpart of the paper's Fig. 5: clusters, their children and grandchildren, each as the images nearest to its center."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from strata.curation import EmbeddingStore
from strata.curation.artifact import read_manifest
from strata.curation.atlas.labels import label_name
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.base import Pool
from strata.curation.pools.inventory import readable
from strata.curation.pools.quicklook import quicklook
from strata.experiments.build import build
from strata.experiments.plan import Run
from strata.experiments.store import Store
from strata.experiments.tree_nodes import Node, tree_nodes
from strata.experiments.values import Value

# Inches
CELL, GAP, TEXT, BETWEEN, MARGIN = 0.5, 0.03, 0.17, 0.3, 0.15
ROOT_SIDE = 3  # a root is a block of so many images by so many
NAME = 19  # characters of a class that are shown


def draw_tree(plt: Any, runs: Sequence[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """A block per arm of ``figure.arms``: its clusters at ``figure.quantiles`` of the sizes of level ``figure.level``."""
    settings = config["figure"]
    wanted = settings.get("arms") or list(config["arms"])
    blocks = [_block(run, store, settings) for run in runs if run.arm in wanted]
    lanes = int(settings["children"])
    strip = settings["images"] * (CELL + GAP)
    tree_height = max(lanes * _lane(), 2 * TEXT + ROOT_SIDE * (CELL + GAP)) + 0.15
    below = min(int(settings["level"]), 3) - 1  # levels of descendants
    wide = 2 * MARGIN + ROOT_SIDE * (CELL + GAP) + (BETWEEN + strip) * below
    wide += (strip + 0.12) * (settings["grandchildren"] - 1) if below == 2 else 0.0
    tall = 0.55 + sum(0.75 + len(nodes) * tree_height for _, nodes, _, _ in blocks) + 0.5
    figure = plt.figure(figsize=(wide, tall))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, wide), ylim=(tall, 0), xticks=[], yticks=[])  # inches from the top left corner
    canvas.axis("off")
    y = 0.55
    for title, nodes, pool, names in blocks:
        y += 0.45
        canvas.text(MARGIN, y, title, size=11, weight="bold", va="center")
        y += 0.3
        for root in nodes:
            _root(canvas, root, y, lanes, strip, settings, pool, names)
            y += tree_height
    canvas.text(MARGIN, tall - 0.25, settings.get("credit", ""), size=7, color="#57606a", va="center")
    return figure


def _block(run: Run, store: Store, settings: Mapping[str, Any]) -> tuple[str, list[Node], Pool, list[str] | None]:
    """Heading, clusters, pool and names of the classes of an arm."""
    embedded = run.sample.inputs["embeddings"]
    pool = readable(build(embedded.runtime["pools"]["pool"], "pool"), store.path(embedded.inputs["pool"]))
    hierarchy = Hierarchy.load(store.path(run.sample))
    names = read_manifest(store.path(embedded), "embeddings")["label_names"]
    nodes = tree_nodes(
        hierarchy,
        EmbeddingStore.open(store.path(embedded)).labels,
        level=settings["level"],
        quantiles=settings["quantiles"],
        children=settings["children"],
        images=settings["images"],
        root_images=ROOT_SIDE**2,
    )
    levels = " / ".join(f"{k:,}" for k in hierarchy.n_clusters)
    return f"{run.arm}: {hierarchy.n:,} images, {levels} clusters (seed {run.seed})", nodes, pool, names


def _lane() -> float:
    return TEXT + CELL + 0.14


def _root(
    canvas: Any, root: Node, top: float, lanes: int, strip: float, settings: Mapping[str, Any], pool: Pool, names: Any
) -> None:
    """A root, its children one above the other, and the children of each side by side."""
    block = ROOT_SIDE * (CELL + GAP)
    head = f"level {root.level}: {_said(root, names)}"
    left, start = MARGIN, top + max(0.0, (lanes * _lane() - block - TEXT) / 2)
    _strip(canvas, left, start, head, root.rows, pool, ROOT_SIDE)
    for lane, child in enumerate(root.children):
        x, y = left + block + BETWEEN, top + lane * _lane()
        _line(canvas, left + block, start + TEXT + block / 2, x, y)
        _strip(canvas, x, y, f"level {child.level}: {_said(child, names)}", child.rows, pool, settings["images"])
        for place, grandchild in enumerate(child.children[: settings["grandchildren"]]):
            right = x + strip + BETWEEN + place * (strip + 0.12)
            if not place:
                _line(canvas, x + strip, y + TEXT + CELL / 2, right, y)
            _strip(canvas, right, y, _said(grandchild, names), grandchild.rows, pool, settings["images"])


def _said(node: Node, names: Sequence[str] | None) -> str:
    """Its images, and the class that most of them are of."""
    images = f"{node.size:,} image{'s' if node.size > 1 else ''}"
    if node.label < 0:
        return images
    name = label_name(names, node.label)
    name = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return f"{images}, {node.share:.0%} {name}"


def _strip(canvas: Any, x: float, y: float, text: str, rows: Sequence[int], pool: Pool, across: int) -> None:
    canvas.text(x, y + TEXT / 2, text, size=6.5, va="center")
    for place, row in enumerate(rows):
        left, top = x + place % across * (CELL + GAP), y + TEXT + place // across * (CELL + GAP)
        canvas.imshow(_picture(pool[row]), extent=(left, left + CELL, top + CELL, top), interpolation="lanczos")


def _line(canvas: Any, x0: float, y0: float, x1: float, top: float) -> None:
    """From the middle of a parent's right edge to that of a child's left one."""
    middle, y1 = (x0 + x1) / 2, top + TEXT + CELL / 2
    canvas.plot([x0, middle, middle, x1 - 0.04], [y0, y0, y1, y1], color="#8c959f", lw=0.8)


def _picture(item: Any) -> np.ndarray:
    """The middle square of an item, RGB."""
    image: Image.Image = quicklook(item) if isinstance(item, np.ndarray) else item.convert("RGB")
    side = min(image.size)
    return np.asarray(ImageOps.fit(image, (min(side, 128), min(side, 128))))
