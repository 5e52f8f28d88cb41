"""What a step of clustering amounts to, and how long a machine takes for it. Nothing here looks at data."""

from dataclasses import astuple, dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Work:
    """Amounts that add up. Shared out to threads: products and distances; the rest runs on one."""

    screen: float = 0.0  # FLOP of products in the precision that screens centroids: 2 d per distance
    pairs: float = 0.0  # distances that the compiled loop looks at after the product
    exact: float = 0.0  # FLOP of the float64 products of k-means++
    written: float = 0.0  # distances of k-means++: written to memory after the product
    moved: float = 0.0  # bytes of elementwise passes; slower passes count as the bytes that take as long
    sorts: float = 0.0  # m log2 m of sorts of m rows
    calls: float = 0.0  # small steps whose cost does not depend on their size

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(times * amount for amount in astuple(self)))

    __rmul__ = __mul__

    @property
    def flop(self) -> float:
        """Floating point operations of matrix products."""
        return self.screen + self.exact


@dataclass(frozen=True)
class Rates:
    """Work per second of one thread (or one GPU), by the kind of ``Work``; and which kind of machine it is.

    The defaults are those of the 2-core x86-64 machine (AMD EPYC, AVX-512 with bfloat16) that this was written on.
    """

    screen: float = 2.7e11
    narrow: float = 1.7e11  # FLOP of screening products in float32: below 16 features or 64 clusters
    pairs: float = 1.1e9
    exact: float = 4.5e10
    written: float = 1.5e8
    moved: float = 3.9e10
    sorts: float = 9.4e7
    calls: float = 3.2e4
    low_precision: bool = True  # screens in bfloat16 from 16 features and 64 clusters on

    def seconds(self, work: Work, threads: int = 1, wide: bool = True) -> float:
        """Time for ``work``; ``wide``: its products are screened in the low precision."""
        screen = work.screen / (self.screen if wide else self.narrow)
        shared = screen + work.pairs / self.pairs + work.exact / self.exact
        alone = work.written / self.written + work.moved / self.moved + work.sorts / self.sorts
        return shared / threads + alone + work.calls / self.calls

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Self:
        """Rates as ``dataclasses.asdict`` gives them. Raises a ValueError if they are not positive numbers."""
        known = {item.name for item in fields(cls)}
        amounts = [value for name, value in values.items() if name != "low_precision"]
        if set(values) != known or not all(isinstance(value, int | float) and value > 0 for value in amounts):
            raise ValueError("not a set of rates")
        return cls(**values)  # type: ignore[arg-type]
