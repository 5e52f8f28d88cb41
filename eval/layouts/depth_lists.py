"""KITTI, NYU Depth v2 and SUN RGB-D: images and depth maps by the published lists of pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from strata.curation.errors import ConfigError
from strata.eval.layouts.files import MapsPool, check_files, need, open_root

LAYOUT = "ROOT/LIST with a line 'IMAGE DEPTH [FOCAL]' for each pair, both 16-bit PNG or JPEG files below ROOT"
Crop = Literal["none", "eigen", "garg"]


def depth_pairs(
    name: str,
    root: str,
    pairs: str,
    units_per_metre: float,
    min_depth: float,
    max_depth: float,
    crop: Crop = "none",
    below: str = "",
) -> MapsPool:
    """Images and depth maps in metres. Where there is no measurement (0), or outside the range or crop, a map is NaN.

    Lists: cleinc/bts#train_test_inputs (KITTI's Eigen split: Eigen et al., arXiv:1406.2283; NYU), and for SUN RGB-D
    zhyever/Monocular-Depth-Estimation-Toolbox#splits. Lines whose depth is "None" are left out, as there.

    Args:
        name: in tables.
        root: folder of the images, depth maps and the list.
        pairs: the list, below the root.
        units_per_metre: of the stored values: 256 (KITTI), 1000 (NYU), 8000 (SUN RGB-D).
        min_depth: metres; smaller ones do not count.
        max_depth: metres; larger ones do not count.
        crop: part of the map that counts: "eigen" (NYU), "garg" (KITTI; Garg et al., arXiv:1603.04992).
        below: folder under the root that the list's paths start from.

    Raises:
        ConfigError: it is not there in this layout, or a number makes no sense.
    """
    if not 0 <= min_depth < max_depth or units_per_metre <= 0:
        problem = f"{min_depth} to {max_depth} metres, {units_per_metre} units a metre"
        raise ConfigError("pool.max_depth", problem, "give 0 <= min_depth < max_depth and units above 0")
    if crop not in CROPS:
        raise ConfigError("pool.crop", f"{crop!r} is unknown", f"use one of {', '.join(CROPS)}")
    folder = open_root(root, LAYOUT)
    lines = [line.split() for line in need(folder / pairs, LAYOUT).read_text().splitlines() if line.strip()]
    if any(len(line) < 2 for line in lines):
        raise ConfigError("pool.pairs", f"{folder / pairs} has a line without a depth map", f"the layout is {LAYOUT}")
    prefix = f"{below.strip('/')}/" if below else ""
    kept = [(prefix + line[0].lstrip("/"), prefix + line[1].lstrip("/")) for line in lines if line[1] != "None"]
    check_files(folder, [image for image, _ in kept], LAYOUT)
    check_files(folder, [depth for _, depth in kept], LAYOUT)
    decode = DepthMap(units_per_metre, min_depth, max_depth, crop)
    return MapsPool(
        name,
        folder,
        [image for image, _ in kept],
        [depth for _, depth in kept],
        decode,
        task_info={"min": min_depth, "max": max_depth, "unit": "m"},
        about={"layout": "depth_pairs", "pairs": pairs},
    )


@dataclass(frozen=True)
class DepthMap:
    """Reads a depth map stored in a PNG of whole numbers."""

    units_per_metre: float
    min_depth: float
    max_depth: float
    crop: Crop

    def __call__(self, image: Image.Image) -> np.ndarray:
        """float32 [height, width], metres; NaN where nothing counts."""
        stored = np.asarray(image)
        if stored.ndim != 2:
            raise ValueError(f"a depth map has one channel, this one {stored.shape}")
        depth = stored.astype(np.float32) / np.float32(self.units_per_metre)
        counts = (stored > 0) & (depth >= self.min_depth) & (depth <= self.max_depth) & CROPS[self.crop](*depth.shape)
        return np.where(counts, depth, np.float32(np.nan))


def eigen_crop(height: int, width: int) -> np.ndarray:
    """Rows 45 to 470 and columns 41 to 600 of NYU's 480 x 640 maps, in proportion for other sizes.

    Source: cleinc/bts#pytorch/bts_eval.py.
    """
    inside = np.zeros((height, width), bool)
    rows, columns = np.array([45, 471]) * height // 480, np.array([41, 601]) * width // 640
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    return inside


def garg_crop(height: int, width: int) -> np.ndarray:
    """The part of KITTI's maps that is scored by convention. Source: Garg et al., arXiv:1603.04992."""
    inside = np.zeros((height, width), bool)
    inside[int(0.40810811 * height) : int(0.99189189 * height), int(0.03594771 * width) : int(0.96405229 * width)] = (
        True
    )
    return inside


def no_crop(height: int, width: int) -> np.ndarray:
    """All of it."""
    return np.ones((height, width), bool)


CROPS: dict[str, Callable[[int, int], np.ndarray]] = {"none": no_crop, "eigen": eigen_crop, "garg": garg_crop}
