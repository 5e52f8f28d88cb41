"""The counterpart of the paper's Fig. 5: clusters, their children and grandchildren, each as the images nearest to its center."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from strata.curation import EmbeddingStore
from strata.curation.artifact import read_manifest
from strata.curation.atlas.labels import label_name
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.base import Pool
from strata.curation.pools.inventory import readable
from strata.curation.pools.quicklook import quicklook
from strata.experiments.comparison.values import Value
from strata.experiments.planning.plan import Run
from strata.experiments.reporting.tree_nodes import Node, tree_nodes
from strata.experiments.settings.build import build
from strata.experiments.store import Store

# Inches
CELL, STEP, LINE, BETWEEN, MARGIN, APART = 0.5, 0.53, 0.17, 0.3, 0.15, 0.12
LANE = LINE + CELL + 0.13  # a child
SIDE = 3  # a root is a block of so many images by so many
NAME = 30  # characters of a class that are shown
BLUR = 3.0  # pixels of images of 64


@dataclass(frozen=True)
class Block:
    """What is drawn of an arm.

    Attributes:
        title: over it. nodes: its roots. pool: of their rows.
        classes: of each row, or None. names: of the classes, or None. blurred: classes that are shown out of focus.
    """

    title: str
    nodes: list[Node]
    pool: Pool
    classes: np.ndarray | None
    names: list[str] | None
    blurred: frozenset[str]


def draw_tree(plt: Any, runs: Sequence[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """A block per arm of ``figure.arms``: its clusters at ``figure.quantiles`` of the sizes of level ``figure.level``.

    Images of the classes of ``figure.blur`` are out of focus (people who did not ask to be shown).
    """
    settings = config["figure"]
    wanted = settings.get("arms") or list(config["arms"])
    blocks = [_block(run, store, settings) for run in runs if run.arm in wanted]
    columns = _columns(settings)
    wide = columns[-1] + settings["images"] * STEP + MARGIN
    tall = 0.8 + sum(0.75 + sum(sum(_reach(node)) + BETWEEN for node in block.nodes) for block in blocks) + 0.35
    figure = plt.figure(figsize=(wide, tall))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, wide), ylim=(tall, 0), xticks=[], yticks=[])  # inches from the top left corner
    canvas.axis("off")
    y = 0.8
    for block in blocks:
        canvas.text(MARGIN, y + 0.2, block.title, size=11, weight="bold", va="center")
        heads = ["", ": the largest children", ": their largest children"]
        for below, x in enumerate(columns[:3]):
            said = f"level {int(settings['level']) - below}{heads[below]}"
            canvas.text(x, y + 0.5, said, size=8, color="#57606a", va="center")
        y += 0.75
        for root in block.nodes:
            _root(canvas, root, y, columns, settings, block)
            y += sum(_reach(root)) + BETWEEN
    canvas.text(MARGIN, tall - 0.2, settings.get("credit", ""), size=7, color="#57606a", va="center")
    return figure


def _block(run: Run, store: Store, settings: Mapping[str, Any]) -> Block:
    embedded = run.sample.inputs["embeddings"]
    pool = readable(build(embedded.runtime["pools"]["pool"], "pool"), store.path(embedded.inputs["pool"]))
    hierarchy = Hierarchy.load(store.path(run.sample))
    names = read_manifest(store.path(embedded), "embeddings")["label_names"]
    classes = EmbeddingStore.open(store.path(embedded)).labels
    nodes = tree_nodes(
        hierarchy,
        classes,
        level=settings["level"],
        quantiles=settings["quantiles"],
        children=settings["children"],
        images=settings["images"],
        root_images=SIDE**2,
    )
    levels = " / ".join(f"{k:,}" for k in hierarchy.n_clusters)
    title = f"{run.arm}: {hierarchy.n:,} images, {levels} clusters"
    return Block(title, nodes, pool, classes, names, frozenset(settings.get("blur") or ()))


def _columns(settings: Mapping[str, Any]) -> list[float]:
    """Left edges: of roots, of children if there are, then of grandchildren side by side."""
    below, strip = min(int(settings["level"]), 3) - 1, settings["images"] * STEP
    edges = [MARGIN]
    if below > 0:
        edges.append(MARGIN + SIDE * STEP + BETWEEN)
    if below > 1:
        first = edges[1] + strip + BETWEEN
        edges += [first + place * (strip + APART) for place in range(settings["grandchildren"])]
    return edges


def _reach(root: Node) -> tuple[float, float]:
    """How far a tree goes above and below the middle of its root's images, which is that of its children's."""
    spread = (max(len(root.children), 1) - 1) * LANE / 2
    return max(2 * LINE + SIDE * STEP / 2, spread + LINE + CELL / 2), max(SIDE * STEP / 2, spread + CELL / 2)


def _root(
    canvas: Any, root: Node, top: float, columns: Sequence[float], settings: Mapping[str, Any], block: Block
) -> None:
    """A root, its children one above the other, and the children of each side by side."""
    middle = top + _reach(root)[0]
    first = middle - (len(root.children) - 1) * LANE / 2 - LINE - CELL / 2
    _strip(canvas, columns[0], middle - 2 * LINE - SIDE * STEP / 2, _said(root, block.names), root.rows, SIDE, block)
    for lane, child in enumerate(root.children):
        y = first + lane * LANE
        _line(canvas, columns[0] + SIDE * STEP, middle, columns[1], y)
        text = ", ".join(_said(child, block.names))
        _strip(canvas, columns[1], y, [text], child.rows, settings["images"], block)
        for place, grandchild in enumerate(child.children[: settings["grandchildren"]]):
            right = columns[2 + place]
            if not place:
                _line(canvas, columns[1] + settings["images"] * STEP, y + LINE + CELL / 2, right, y)
            text = ", ".join(_said(grandchild, block.names))
            _strip(canvas, right, y, [text], grandchild.rows, settings["images"], block)


def _said(node: Node, names: Sequence[str] | None) -> list[str]:
    """Its images, and the class that most of them are of."""
    images = f"{node.size:,} image{'s' if node.size > 1 else ''}"
    if node.label < 0:
        return [images]
    name = label_name(names, node.label)
    return [images, f"{node.share:.0%} {name if len(name) <= NAME else name[: NAME - 1] + '…'}"]


def _strip(
    canvas: Any, x: float, y: float, lines: Sequence[str], rows: Sequence[int], across: int, block: Block
) -> None:
    for line in lines:
        canvas.text(x, y + LINE / 2, line, size=6.5, va="center")
        y += LINE
    for place, row in enumerate(rows):
        left, top = x + place % across * STEP, y + place // across * STEP
        picture = _picture(block.pool[row], _is_blurred(row, block))
        canvas.imshow(picture, extent=(left, left + CELL, top + CELL, top), interpolation="lanczos")


def _is_blurred(row: int, block: Block) -> bool:
    return block.classes is not None and label_name(block.names, int(block.classes[row])) in block.blurred


def _line(canvas: Any, x0: float, y0: float, x1: float, top: float) -> None:
    """From the middle of a parent's right edge to that of a child's left one."""
    middle, y1 = (x0 + x1) / 2, top + LINE + CELL / 2
    canvas.plot([x0 + 0.02, middle, middle, x1 - 0.04], [y0, y0, y1, y1], color="#8c959f", lw=0.8)


def _picture(item: Any, blurred: bool) -> np.ndarray:
    """The middle square of an item, RGB, of at most 128 pixels."""
    image: Image.Image = quicklook(item) if isinstance(item, np.ndarray) else item.convert("RGB")
    side = min(*image.size, 128)
    image = ImageOps.fit(image, (side, side))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR * side / 64)) if blurred else image)
