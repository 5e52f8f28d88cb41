"""KL divergence to the uniform law on a square: the measure of the paper's Fig. 3."""

from strata.curation.errors import ConfigError
from strata.curation.measures.base import Findings, Measured
from strata.curation.uniformity import kl_to_uniform_2d


class Uniformity2D:
    """Kernel density of the points on [-extent, extent]^2 against the uniform law, in nats.

    Args:
        bandwidth: of the Gaussian kernel, in the units of the points.
        extent: half side of the square.
        step: of the grid.
    """

    VERSION = 1
    needs_rows = False
    needs_tree = False
    needs_reference = False
    metrics = ("kl", "points")

    def __init__(self, bandwidth: float = 0.5, extent: float = 3.0, step: float = 0.02) -> None:
        if not (bandwidth > 0 and extent > 0 and 0 < step <= extent):
            raise ConfigError("measure", f"bandwidth {bandwidth}, extent {extent}, step {step}", "use positive numbers")
        self.bandwidth, self.extent, self.step = bandwidth, extent, step

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for points that are not in 2-D."""
        kl = kl_to_uniform_2d(measured.points, bandwidth=self.bandwidth, extent=self.extent, step=self.step)
        return Findings({"kl": kl, "points": float(len(measured.points))})
