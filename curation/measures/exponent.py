"""Exponent of the density of points on a line: what the paper's Fig. 2 draws, as a number."""

from strata.curation.density_exponent import density_exponent
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Findings, Measured


class DensityExponent:
    """t where the points have density p^t and the pool p: 1 follows the pool, 0 is uniform."""

    VERSION = 1
    needs_rows = False
    needs_tree = False
    needs_reference = False
    metrics = ("exponent", "points")

    def __init__(self, groups: int = 50) -> None:
        if groups < 3:
            raise ConfigError("measure.groups", f"{groups}", "give 3 or more")
        self.groups = groups

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for points that are not on a line."""
        t = density_exponent(measured.points, measured.data, groups=self.groups)
        return Findings({"exponent": t, "points": float(len(measured.points))})


class AxisExponent(DensityExponent):
    """The same of points in more axes whose density varies along one of them (``strata.curation.pools.slab``)."""

    def __init__(self, groups: int = 50, axis: int = 0) -> None:
        super().__init__(groups)
        if axis < 0:
            raise ConfigError("measure.axis", f"{axis}", "give the number of an axis, from 0")
        self.axis = axis

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for points without that axis."""
        if self.axis >= measured.points.shape[1]:
            raise DataError(f"points have {measured.points.shape[1]} axes, and axis {self.axis} is measured")
        t = density_exponent(measured.points[:, self.axis], measured.data[:, self.axis], groups=self.groups)
        return Findings({"exponent": t, "points": float(len(measured.points))})
