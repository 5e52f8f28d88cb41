"""A generated pool whose concepts are known: shape x texture x palette, with a long tail and realistic nuisance."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.draw import PALETTES, draw
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row, pool_name
from strata.curation.pools.shapes import SHAPES, TEXTURES

VERSION = 2  # raised when the same arguments give other images
_COUNTS, _IMAGES = 0, 1  # streams of random numbers


class RenderedPool:
    """``n`` images of ``n_shapes * n_textures * n_palettes`` concepts, drawn when asked for.

    The concept of rank r (1 = head) has probability proportional to ``r^-zipf``; ranks are a permutation fixed by
    ``concept_seed``, so that a training pool and a test pool agree on what is rare. The number of items of each concept
    is one multinomial draw of size n; their order is a permutation. Counts and order depend on (seed, split), an image
    on (seed, split, row, concept) only: not on the order of reading.

    The label is the concept's id, its name e.g. "disc/stripes/red-white".

    Args:
        n: number of images.
        n_shapes, n_textures, n_palettes: how many of each to use, the first ones of ``SHAPES``, ``TEXTURES`` and
            ``PALETTES`` in ``shapes.py`` and ``draw.py`` (12, 8 and 12 at most).
        zipf: exponent of the long tail; 0 = balanced in expectation, as for a test pool.
        size: side of the images in pixels, at least 16.
        nuisance: strength, 0 to 1, of what does not belong to the concept: place, scale, rotation, light, background.
        seed: of counts, order and images.
        split: any word; two splits of one seed share no image.
        concept_seed: of the ranks.
        name: defaults to ``rendered-<split>``.

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(
        self,
        n: int,
        n_shapes: int = 8,
        n_textures: int = 5,
        n_palettes: int = 5,
        zipf: float = 1.0,
        size: int = 32,
        nuisance: float = 1.0,
        seed: int = 0,
        split: str = "train",
        concept_seed: int = 0,
        name: str | None = None,
    ) -> None:
        _check("n", n, 1, None)
        _check("n_shapes", n_shapes, 1, len(SHAPES))
        _check("n_textures", n_textures, 1, len(TEXTURES))
        _check("n_palettes", n_palettes, 1, len(PALETTES))
        _check("zipf", zipf, 0, None)
        _check("size", size, 16, None)
        _check("nuisance", nuisance, 0, 1)
        _check("seed", seed, 0, None)
        _check("concept_seed", concept_seed, 0, None)
        if not split:
            raise ConfigError("pool.split", "is empty", "give a word such as train")
        self.n, self.size, self.seed, self.split, self.zipf = n, size, seed, split, zipf
        self.concept_seed, self.nuisance = concept_seed, nuisance
        self.name = pool_name(name, "rendered", split)
        self._stream = zlib.crc32(split.encode())
        pairs = ["-".join(pair) for pair in PALETTES[:n_palettes]]
        self._concepts = [
            (shape, texture, palette)
            for shape in list(SHAPES)[:n_shapes]
            for texture in list(TEXTURES)[:n_textures]
            for palette in range(n_palettes)
        ]
        self._sides = (n_shapes, n_textures, n_palettes)
        self.label_names: list[str] | None = [f"{s}/{t}/{pairs[p]}" for s, t, p in self._concepts]
        self.class_rank = concept_ranks(len(self._concepts), concept_seed)
        self._labels = self._draw_labels()
        self.labels: NDArray[np.int64] | None = self._labels
        self._ids: list[str] | None = None

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> Image.Image:
        """The image at a row, RGB, ``size`` x ``size``. IndexError past the end."""
        row = check_row(row, self.n)
        shape, texture, palette = self._concepts[self._labels[row]]
        return Image.fromarray(draw(self._rng(_IMAGES, row), shape, texture, palette, self.size, self.nuisance))

    @property
    def ids(self) -> Sequence[str]:
        """``rendered-train-0-00000042``: split, seed, row."""
        if self._ids is None:
            self._ids = [f"rendered-{self.split}-{self.seed}-{row:08d}" for row in range(self.n)]
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the generator's version and all of its arguments: these determine every image."""
        return digest_json({"version": VERSION, **self.describe()})

    def column(self, name: str) -> NDArray[np.int64]:
        """ "class_rank" (1 = head), "shape", "texture" or "palette" of each item, int64 [n].

        Raises:
            ConfigError: any other name.
        """
        if name == "class_rank":
            return self.class_rank[self._labels]
        parts = dict(zip(("shape", "texture", "palette"), np.unravel_index(self._labels, self._sides), strict=True))
        if name not in parts:
            raise ConfigError(
                "column", f"a rendered pool has no {name!r}", f"choose class_rank or one of {list(parts)}"
            )
        return parts[name].astype(np.int64)

    def describe(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "reader": "rendered",
            "n": self.n,
            "n_shapes": self._sides[0],
            "n_textures": self._sides[1],
            "n_palettes": self._sides[2],
            "zipf": float(self.zipf),
            "size": self.size,
            "nuisance": float(self.nuisance),
            "seed": self.seed,
            "split": self.split,
            "concept_seed": self.concept_seed,
        }

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self._stream, *key])

    def _draw_labels(self) -> NDArray[np.int64]:
        rng = self._rng(_COUNTS)
        weights = self.class_rank.astype(np.float64) ** -self.zipf
        counts = rng.multinomial(self.n, weights / weights.sum())
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def concept_ranks(n_concepts: int, concept_seed: int) -> NDArray[np.int64]:
    """Rank of each concept [n_concepts], 1 = the most frequent: a seeded permutation of 1..n."""
    return np.random.default_rng(concept_seed).permutation(n_concepts).astype(np.int64) + 1


def _check(field: str, value: float, low: float, high: float | None) -> None:
    if not value >= low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"pool.{field}", f"is {value}", f"give {span}")
