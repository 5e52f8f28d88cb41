"""Simulated points: a mixture of Gaussians and a uniform background, the toy pools of the paper's Figs. 2 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.pools.drawn_points import DrawnPoints
from strata.curation.pools.items import pool_name

_ROUNDS = 1000  # of redrawing what fell outside the box, before the box is refused


@dataclass(frozen=True)
class Gaussian:
    """``n`` points around ``center`` [d] with standard deviation ``sigma`` on every axis."""

    n: int
    center: tuple[float, ...]
    sigma: float


class SimulatedPool(DrawnPoints):
    """Points of a mixture; an item is its float32 coordinates [d], its label the component that it was drawn from.

    Args:
        gaussians: list of {n, center, sigma}; ``center`` has one number per axis.
        n_uniform: points drawn uniformly in the box, the last component.
        box: [low, high] of every axis.
        truncate: draw Gaussian points again until they lie in the box; else they may lie outside it.
        seed: of the draw.
        name: defaults to "simulated-<d>d".

    Raises:
        ConfigError: no points, centers of different lengths, an empty box, or one that holds next to nothing.
    """

    def __init__(
        self,
        gaussians: Sequence[dict[str, Any]],
        n_uniform: int = 0,
        box: Sequence[float] = (-3.0, 3.0),
        truncate: bool = False,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        try:
            parts = [Gaussian(int(g["n"]), tuple(map(float, g["center"])), float(g["sigma"])) for g in gaussians]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError("pool.gaussians", f"cannot be read ({error!r})", "list {n, center, sigma}") from error
        if not parts or len({len(part.center) for part in parts}) != 1 or not parts[0].center:
            raise ConfigError("pool.gaussians", "have no or different numbers of axes", "give equally long centers")
        if any(part.n < 1 or not part.sigma > 0 for part in parts) or n_uniform < 0:
            raise ConfigError("pool.gaussians", "need n of 1 or more and sigma above 0", "correct the numbers")
        if len(box) != 2 or not box[0] < box[1]:
            raise ConfigError("pool.box", f"{list(box)} is empty", "give [low, high]")
        self.box, self.truncate, self.seed = (float(box[0]), float(box[1])), truncate, seed
        self.gaussians, self.n_uniform = parts, n_uniform
        rng = np.random.default_rng(seed)
        clouds = [self._draw(part, rng) for part in parts]
        dim = len(parts[0].center)
        clouds.append(rng.uniform(*self.box, (n_uniform, dim)))
        labels = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds])
        label_names = [f"gaussian-{i}" for i in range(len(parts))] + (["uniform"] if n_uniform else [])
        points = np.concatenate(clouds)
        super().__init__("simulated", points, pool_name(name, f"simulated-{dim}d"), labels, label_names)

    def _draw(self, part: Gaussian, rng: np.random.Generator) -> NDArray[np.float64]:
        points = part.center + part.sigma * rng.standard_normal((part.n, len(part.center)))
        for _ in range(_ROUNDS if self.truncate else 0):
            outside = ((points < self.box[0]) | (points > self.box[1])).any(axis=1)
            if not outside.any():
                return points
            points[outside] = part.center + part.sigma * rng.standard_normal((int(outside.sum()), len(part.center)))
        if self.truncate:
            raise ConfigError("pool.box", f"{list(self.box)} misses the Gaussian at {part.center}", "widen the box")
        return points

    def describe(self) -> dict[str, Any]:
        """Reader and options."""
        parts = [{"n": g.n, "center": list(g.center), "sigma": g.sigma} for g in self.gaussians]
        options = {"n_uniform": self.n_uniform, "box": list(self.box), "truncate": self.truncate, "seed": self.seed}
        return {"reader": "simulated", "gaussians": parts, **options}
