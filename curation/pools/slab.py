"""Points of a known intrinsic dimension in more axes: a density that varies along the first axis only."""

from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.drawn_points import DrawnPoints
from strata.curation.pools.items import pool_name


class SlabPool(DrawnPoints):
    """``n`` points: the first axis has density 2(1 - a)x + a on [0, 1], the next ``dim - 1`` are uniform, the rest are noise.

    k-means centroids in d dimensions have density p^(d / (d + 2)) (paper, section 3.2, after Zador), so that along the first axis
    they follow that power of a straight line, whatever the number of axes around them.

    Args:
        n: points.
        dim: intrinsic dimension d.
        ambient: axes in all, at least ``dim``.
        noise: standard deviation of the axes beyond ``dim``.
        floor: a, the density at x = 0; 1 is uniform.
        seed: of the draw.
        name: defaults to "slab-<dim>".

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        ambient: int = 16,
        noise: float = 0.0,
        floor: float = 0.1,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        if n < 1 or not 1 <= dim <= ambient:
            raise ConfigError(
                "pool.dim", f"is {dim} of {ambient} axes, {n} points", "give 1 <= dim <= ambient and points"
            )
        if not 0 < floor <= 1 or noise < 0:
            raise ConfigError(
                "pool.floor", f"is {floor}, with noise {noise}", "give 0 < floor <= 1 and noise of 0 or more"
            )
        self.options = {"n": n, "dim": dim, "ambient": ambient, "noise": noise, "floor": floor, "seed": seed}
        rng = np.random.default_rng(seed)
        points = rng.uniform(size=(n, ambient))
        # The inverse of F(x) = (1 - a) x^2 + a x
        u, slope = points[:, 0], 1.0 - floor
        points[:, 0] = u if slope == 0 else (np.sqrt(floor**2 + 4 * slope * u) - floor) / (2 * slope)
        points[:, dim:] = noise * rng.standard_normal((n, ambient - dim))
        super().__init__("slab", points, pool_name(name, f"slab-{dim}"))

    def describe(self) -> dict[str, Any]:
        """Reader and options."""
        return {"reader": "slab", **self.options}
