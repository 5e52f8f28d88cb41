"""Points drawn uniformly from a box, whatever the data: the lower bound of the paper's Fig. 3."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from strata.curation.codebooks.base import Codebook
from strata.curation.errors import ConfigError


class UniformCodebook:
    """``n_draws`` independent codebooks of ``n_points`` in the box [low, high] of every axis; no row belongs to one."""

    def __init__(self, n_points: int, box: Sequence[float], n_draws: int = 10) -> None:
        if min(n_points, n_draws) < 1 or len(box) != 2 or not box[0] < box[1]:
            problem = f"{n_points} points in {list(box)}, {n_draws} times"
            raise ConfigError("codebook", problem, "give 1 or more, and [low, high]")
        self.n_points, self.n_draws, self.box = n_points, n_draws, (float(box[0]), float(box[1]))

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """Only the number of axes depends on ``X``."""
        # A stream of its own: a simulated pool draws from the bare seed.
        rng = np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(1,)))
        points = rng.uniform(*self.box, (self.n_draws * self.n_points, X.shape[1]))
        return Codebook(points, np.full(len(X), -1, np.int32), self.n_draws)
