"""The steps of a k-means, as amounts of work: each formula follows one function of ``strata.curation.kmeans``.

Modelled are the two algorithms of ``kmeans.flat``: "lloyd" (exact: a full first pass, then passes pruned by bounds) and
"accelerated" (seeds and first iterations on a sample, over-relaxed updates, lists of near centroids for many clusters,
an exact last pass); with greedy k-means++ drawn in batches, or the scalable init. A new algorithm needs a function here
and a line in ``fit.Job``. Products, distances and sorts are counted; bytes are those that the numpy and torch passes
read and write. What depends on the data (how soon labels settle, how much the bounds prune) is a ``Course``: expected,
fitted on measured runs, or the most that can be.
"""

import math
from dataclasses import dataclass

from strata.curation.cost.work import Work
from strata.curation.kmeans.init import InitName
from strata.curation.kmeans.source import BLOCK

_ACCEPTED = 0.95  # of the candidates of k-means++: measured, 1.03 to 1.20 drawn per one used
_PREPARE = 180  # bytes per value: read and measured in float64, then centered and cast
_EXACT_DISTANCE = 110  # bytes per value: float64 difference to the own centroid, squared, and the tree of sums
_NEAREST = 12_000, 90  # bytes per row and per value: winners looked at again in float64, labels and bounds written
_BOUNDS = 4_000, 60, 2_400  # bytes per row, value of a row and value of a centroid that a pass takes beside products
_AGAIN = 100  # bytes per value to read and center the rows once more, where no centered copy is kept
_GRID = 250  # bytes per value that k-means++ rounds to its grid in every batch
_GATHERED = 4  # bytes per value of a candidate
_REUSED = 32 << 20  # bytes up to which malloc gives an array memory that was used before: cheaper than fresh pages
_GROUP_ROWS, _GROUP_ITERATIONS = 64, 10  # the sample of the scalable init, see kmeans.init


# Of kmeans.init, kmeans.accelerated and kmeans.candidates:
TRIES, MANY, DRAWN = 4, 16, 1.5  # times the candidates of greedy k-means++ (from so many groups on), times the centers
SAMPLE, SAMPLE_ITERATIONS = 40, 5  # rows per cluster that seeds and first iterations see
COARSE = 1 << 24  # n d k from which k-means++ multiplies 8 bits
LISTS, GROUP, NEAR = 500, 128, 2048  # clusters from which candidates are used, centroids of a group and of a list
FEW, EVERY = 8, 3  # candidates of a point, iterations from one choice of them to the next


@dataclass(frozen=True)
class Course:
    """How the iterations of a k-means of n points in k clusters go."""

    iterations: float
    share: float  # of n k distances that an iteration after the first pass computes


def expected(n: float, k: float, n_iter: int) -> Course:
    """What measured runs did, on mixtures of Gaussians, patch embeddings and uniform points (n / k from 3 to 1,000).

    They took 1 to 25 passes' worth of products for 3 to 50 iterations: well-clustered data much less than this.
    """
    return Course(min(n_iter, 4 * max(1.0, n / k) ** 0.7), 0.3)


def most(n: float, k: float, n_iter: int) -> Course:
    """No early stop, no pruning."""
    return Course(n_iter, 1.0)


def prepare(n: float, d: int) -> Work:
    """``Points``: checked, mean and reach measured, centered copy."""
    return Work(moved=_PREPARE * n * d, calls=10 + n / 8192)


def again(n: float, d: int, cached: bool) -> Work:
    """What a pass costs before it computes anything."""
    return Work() if cached else Work(moved=_AGAIN * n * d)


def nearest(n: float, d: int, k: float, cached: bool = True) -> Work:
    """``distance.assign``: every row against every centroid; the winners again in float64."""
    moved = n * _NEAREST[0] + n * d * _NEAREST[1] + k * d * 40
    return Work(screen=2 * n * k * d, pairs=n * k, moved=moved, calls=1 + n / 8192) + again(n, d, cached)


def distances(n: float, d: int) -> Work:
    """``distance.squared_distances``: every row to its own centroid."""
    return Work(moved=_EXACT_DISTANCE * n * d, calls=n / 8192)


def lloyd(n: float, d: int, k: float, course: Course, cached: bool = True) -> Work:
    """``lloyd.lloyd`` from given centroids: a full pass, then ``course``; distances at the end."""
    first = nearest(n, d, k) + Work(moved=n * d * 28)
    beside = n * _BOUNDS[0] + n * d * _BOUNDS[1] + k * d * _BOUNDS[2]
    each = course.share * nearest(n, d, k) + Work(moved=beside, calls=20)
    passes = 2 + course.iterations  # the squared norms are one
    return first + course.iterations * each + passes * again(n, d, cached) + distances(n, d)


def expected_accelerated(n: float, k: float, n_iter: int) -> Course:
    """As ``expected``, of the accelerated algorithm: it stops when an iteration gains less than .03 %."""
    return Course(min(n_iter, 15), 0.7)


def seen_first(n: float, k: float) -> float:
    """Rows that seeds and first iterations of the accelerated algorithm see."""
    return n if n < 1.5 * SAMPLE * k else SAMPLE * k


def accelerated(n: float, d: int, k: float, course: Course, cached: bool = True) -> Work:
    """``accelerated.accelerated`` after its seeds: iterations on the sample and on all rows, and the exact last pass."""
    rows = seen_first(n, k)
    on_sample = (
        _descent(rows, d, k, Course(min(SAMPLE_ITERATIONS, course.iterations), 1.0), True) if rows < n else Work()
    )
    return on_sample + _descent(n, d, k, course, cached) + nearest(n, d, k, cached) + distances(n, d)


def _descent(n: float, d: int, k: float, course: Course, cached: bool) -> Work:
    beside = Work(moved=n * _BOUNDS[0] + n * d * _BOUNDS[1] + k * d * _BOUNDS[2], calls=20) + again(n, d, cached)
    if k < LISTS:
        first = nearest(n, d, k, cached) + beside
        return first + max(0.0, course.iterations - 1) * (course.share * nearest(n, d, k) + beside)
    groups, listed = max(1.0, k // GROUP), min(k, NEAR + GROUP)
    grouping = prepare(k, d) + lloyd(k, d, groups, Course(3, 1.0)) + Work(
        exact=2 * k * groups * d, moved=k * groups * 60, calls=groups * 4
    )  # fmt: skip
    blocks = math.ceil(n / BLOCK)
    choice = sort(n) + Work(
        screen=2 * n * listed * d,
        pairs=n * listed,
        moved=n * d * 16 + groups * listed * d * 40,
        calls=groups * blocks * 3,
    )
    # candidates are held where the centered rows are, else chosen again for each block
    looks = 2 + math.ceil(max(0.0, course.iterations - 2) / EVERY) if cached else course.iterations
    each = Work(moved=n * d * FEW * _GATHERED, calls=1 + n / 8192) + beside
    return nearest(n, d, groups, cached) + looks * (grouping + choice) + course.iterations * each


def tries(k: float) -> int:
    """Candidates of greedy k-means++ per center."""
    return 2 + int(math.log(max(k, 1)))


def batch_size(n: float, k: float, coarse: bool = False) -> float:
    """Candidates that k-means++ draws and multiplies at once, see ``kmeans.plus_plus`` and ``kmeans.grids``."""
    return max(2 * tries(k), min(256, ((1 << 24) // max(1, int(n))) * (2 if coarse else 1)))


def plus_plus(n: float, d: int, k: float, cached: bool = True, m: int | None = None) -> Work:
    """``plus_plus.plus_plus``: k centers, each the best of m candidates, in float64, or in 8 bits where there is much to do.

    Products of 8 bits count as those of a screen, which are no faster.
    """
    m, coarse = m or tries(k), n * d * k >= COARSE
    candidates = m * k / _ACCEPTED
    batches = max(1.0, candidates / max(2 * m, batch_size(n, k, coarse))) + math.log2(k + 1)
    if coarse:
        return prepare(n, d) + Work(
            screen=2 * n * d * candidates,
            written=n * candidates * 0.5,
            moved=batches * n * 24 + k * (m * n * 8 + n * 8),
            calls=k * 0.2 + batches * (2 + math.ceil(n / BLOCK)),
        )
    blocks = math.ceil(n / BLOCK)
    return batches * again(n, d, cached) + Work(
        exact=2 * n * d * candidates,
        written=n * candidates * (1.0 if batch_size(n, k) * n * 8 > _REUSED else 0.4),
        moved=n * d * 50 + batches * (n * d * _GRID + n * 24) + k * (m * n * 40 + n * 16),
        calls=k * 0.2 + batches * (2 + blocks),
    )


def scalable(n: float, d: int, k: float, cached: bool = True) -> Work:
    """The scalable init: sqrt(k) / 2 groups found on a sample, then k-means++ inside each, with more candidates."""
    groups = max(1, round(k**0.5 / 2))
    sample = min(n, groups * _GROUP_ROWS)
    coarse = plus_plus(sample, d, groups) + lloyd(sample, d, groups, Course(_GROUP_ITERATIONS, 0.5))
    inside = groups * (
        prepare(n / groups, d)
        + plus_plus(n / groups, d, max(1.0, DRAWN * k / groups), m=(TRIES if groups >= MANY else 1) * tries(k))
    )
    return prepare(sample, d) + coarse + nearest(n, d, groups, cached) + distances(n, d) + sort(n) + inside


def seeding(init: InitName, n: float, d: int, k: float, cached: bool = True) -> Work:
    """``init.initial_centroids`` by the name of the method."""
    if init == "random":
        return Work(moved=n * 16 + k * d * 16, calls=1)
    return plus_plus(n, d, k, cached) if init == "k-means++" else scalable(n, d, k, cached)


def sort(n: float) -> Work:
    """Rows by label, or by label and distance."""
    return Work(sorts=n * math.log2(n + 1))


def draw(n: float, levels: int, items: float) -> Work:
    """``Hierarchy.sample`` of a tree: counts and water-filling on every level, members drawn; ``items``: all nodes."""
    return Work(moved=200 * n + 400 * items, calls=20 * levels)
