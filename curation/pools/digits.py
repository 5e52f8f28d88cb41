"""scikit-learn's bundled handwritten digits: 1,797 real images that need no download."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row, pool_name

N_TRAIN = 1200
SPLITS = ("train", "test", "all")


class DigitsPool:
    """The 8x8 grey digits of ``sklearn.datasets.load_digits`` (UCI, Alpaydin & Kaynak 1998), scaled up, as RGB.

    The set has no official split. Ours is the first 1,200 ("train") and the last 597 ("test") of a seeded permutation,
    so both hold digits of the same 13 writers. The id is the row in scikit-learn's order: ``digit-0042``.

    Args:
        size: side of the images in pixels, at least 8; bicubic.
        split: "train", "test" or "all" (scikit-learn's order).
        seed: of the permutation.
        name: defaults to ``digits-<split>``.

    Raises:
        ConfigError: an unknown split, or a size below 8.
    """

    def __init__(self, size: int = 16, split: str = "train", seed: int = 0, name: str | None = None) -> None:
        if split not in SPLITS:
            raise ConfigError("pool.split", f"is {split!r}", f"choose one of {list(SPLITS)}")
        if size < 8:
            raise ConfigError("pool.size", f"is {size}", "give at least 8, the size of the original images")
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.default_rng(seed).permutation(len(data.images))
        self._rows = {"train": order[:N_TRAIN], "test": order[N_TRAIN:], "all": np.arange(len(order))}[split]
        self._pixels: NDArray[np.uint8] = np.round(data.images[self._rows] * (255 / 16)).astype(np.uint8)
        self.size, self.split, self.seed = size, split, seed
        self.name = pool_name(name, "digits", split)
        self.labels: NDArray[np.int64] | None = data.target[self._rows].astype(np.int64)
        self.label_names: list[str] | None = [str(digit) for digit in range(10)]
        self._ids = [f"digit-{row:04d}" for row in self._rows]

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> Image.Image:
        """The digit at a row, RGB, ``size`` x ``size``. IndexError past the end."""
        image = Image.fromarray(self._pixels[check_row(row, len(self))])
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC).convert("RGB")

    @property
    def ids(self) -> Sequence[str]:
        """``digit-0042``: the row in scikit-learn's order."""
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the rows taken, the original pixels and the size."""
        pixels, rows = self._pixels.tobytes().hex(), self._rows.tolist()
        return digest_json({"reader": "digits", "pixels": pixels, "rows": rows, "size": self.size})

    def describe(self) -> dict[str, Any]:
        """Reader and options."""
        return {"reader": "digits", "size": self.size, "split": self.split, "seed": self.seed}
