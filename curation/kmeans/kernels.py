"""Compiled loops over one tile of products: what may be nearest, and which of it is. They hold no lock (nogil).

Their arithmetic may be reordered by the compiler: every number they compare carries an error bound, so the outcome
does not depend on it.
"""

from typing import Any

import numba
import numpy as np

_LOOSE = {"nnan", "nsz", "reassoc", "contract"}
_CHUNK = 16  # columns whose minimum is taken first: most such chunks hold nothing that could be nearest


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def _fold(values: Any, n: int, down_to: int) -> None:
    """Minima by folding the upper half onto the lower one until ``down_to`` are left, in place: runs along vectors."""
    while n > down_to:
        n //= 2
        upper = values[n : 2 * n]
        for c in range(n):
            values[c] = min(values[c], upper[c])


@numba.njit(nogil=True, cache=True)
def _padded(width: int) -> int:
    size = 1
    while size < width:
        size *= 2
    return size


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def _scan_row(
    values: Any, buffer: Any, i: int, first: int, c_sq: Any, c_norm: Any, c_lost: Any, x: Any, upper: Any, rest: Any,
    count: Any, cols: Any, lows: Any, relative: Any, accumulated: Any, reach: Any, lost: Any,
) -> None:  # fmt: skip
    """Add to row i's candidates what of one tile's |c|^2 - 2 x.c may be the smallest. See ``scan_float32``."""
    width, cap, two = len(c_sq), cols.shape[1], np.float32(2)
    x_sq, x_norm, x_lost = x[i, 0], x[i, 1], x[i, 2]
    loose = np.float32(2.04) * (x_lost * reach + x_norm * lost) + np.float32(2.0**-19) * (x_sq + reach * reach)
    loose += (relative + accumulated) * x_norm * reach * np.float32(1.02)
    for c in range(width):
        buffer[c] = c_sq[c] - two * values[c]
    buffer[width:] = np.float32(np.inf)
    stride = max(1, len(buffer) // _CHUNK)
    _fold(buffer, len(buffer), stride)  # buffer[c]: minimum of the columns c, c + stride, ...
    best, at = np.float32(np.inf), 0
    for c in range(stride):
        if buffer[c] < best:
            best, at = buffer[c], c
    high, low = min(upper[i], best + loose), rest[i]
    limit, filled = high + loose, count[i]
    for step in range(-1, stride):  # the best chunk first: it lowers the upper bound for the others
        chunk = at if step < 0 else step
        if buffer[chunk] > limit:
            low = min(low, buffer[chunk] - loose)
            continue
        if step == at:
            continue
        for j in range(chunk, width, stride):
            value = c_sq[j] - two * values[j]
            error = np.float32(2.02) * (x_lost * c_norm[j] + x_norm * c_lost[j])
            error += np.float32(2.0**-20) * (x_sq + c_sq[j]) + relative * abs(values[j])
            error += accumulated * x_norm * c_norm[j]
            if value - error > high:
                low = min(low, value - error)
                continue
            high = min(high, value + error)
            if filled == cap:  # drop what later columns have ruled out
                kept = 0
                for slot in range(cap):
                    if lows[i, slot] <= high:
                        cols[i, kept], lows[i, kept] = cols[i, slot], lows[i, slot]
                        kept += 1
                    else:
                        low = min(low, lows[i, slot])
                filled = kept
            if filled < cap:
                cols[i, filled], lows[i, filled] = first + j, value - error
                filled += 1
            else:
                filled = cap + 1  # too many: the row is decided in higher precision
    upper[i], rest[i], count[i] = high, low, filled


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def scan_float32(
    products: Any, first: int, c_sq: Any, c_norm: Any, c_lost: Any, x: Any, upper: Any, rest: Any, count: Any,
    cols: Any, lows: Any, accumulated: float,
) -> None:  # fmt: skip
    """Candidates among the columns of one tile of float32 products x.c.

    Args:
        products: [m, w]. first: number of the first column.
        c_sq, c_norm, c_lost: [w] of each centroid: squared norm, norm, and norm of what rounding took from it.
        x: [m, 3], the same of each row.
        upper: [m], in and out: an upper bound of the smallest |c|^2 - 2 x.c.
        rest: [m], in and out: a lower bound of all columns that are not candidates.
        count: [m], candidates so far; cap + 1 means that they did not fit.
        cols, lows: [m, cap], column of each candidate and its lower bound.
        accumulated: rounding of a product's sum is at most this times |x||c|.
    """
    reach, lost = c_norm.max(), c_lost.max()
    buffer = np.empty(_padded(len(c_sq)), np.float32)
    for i in range(len(products)):
        if count[i] <= cols.shape[1]:
            _scan_row(
                products[i], buffer, i, first, c_sq, c_norm, c_lost, x, upper, rest, count, cols, lows,
                np.float32(0), np.float32(accumulated), reach, lost,
            )  # fmt: skip


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def scan_bfloat16(
    products: Any, first: int, c_sq: Any, c_norm: Any, c_lost: Any, x: Any, upper: Any, rest: Any, count: Any,
    cols: Any, lows: Any, accumulated: float,
) -> None:  # fmt: skip
    """``scan_float32`` of bfloat16 products, given as their bits, uint16 [m, w]."""
    bits = np.empty(products.shape[1], np.uint32)
    values = bits.view(np.float32)
    reach, lost = c_norm.max(), c_lost.max()
    buffer = np.empty(_padded(len(c_sq)), np.float32)
    for i in range(len(products)):
        if count[i] <= cols.shape[1]:
            for j in range(products.shape[1]):
                bits[j] = np.uint32(products[i, j]) << np.uint32(16)
            _scan_row(
                values, buffer, i, first, c_sq, c_norm, c_lost, x, upper, rest, count, cols, lows,
                np.float32(2.02 * 2.0**-8), np.float32(accumulated), reach, lost,
            )  # fmt: skip


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def _difference(a: Any, b: Any) -> float:
    total = 0.0
    for f in range(len(a)):
        step = np.float64(a[f]) - np.float64(b[f])
        total += step * step
    return total


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def decide(
    x: Any, c: Any, norms: Any, c_norm: Any, upper: Any, rest: Any, count: Any, cols: Any, lows: Any, unit: float,
    label: Any, near: Any, far: Any, tied: Any,
) -> None:  # fmt: skip
    """The nearest of each row's candidates by float64 differences.

    Args:
        x, c: rows [m, d] and centroids [u, d], rounded to ``unit``.
        norms: [m, 3] of the rows; c_norm: [u].
        label: out, [m]: column of the nearest candidate. near: its squared distance. far: a lower bound of the squared
            distance of all other columns.
        tied: out, [m]: 0 decided; 1: candidates too close to tell are left, at the front of ``cols``, with ``count`` how
            many; 2: there were too many candidates to look at.
    """
    d, cap = x.shape[1], cols.shape[1]
    for i in range(len(x)):
        if count[i] > cap:
            label[i], near[i], far[i], tied[i] = 0, 0.0, 0.0, 2  # says nothing, and is no garbage
            continue
        x_sq, x_norm = np.float64(norms[i, 0]), np.float64(norms[i, 1] + norms[i, 2])
        others = np.float64(rest[i]) + x_sq
        kept, best, at = 0, np.inf, 0
        for slot in range(count[i]):
            if lows[i, slot] > upper[i]:
                others = min(others, lows[i, slot] + x_sq)
                continue
            distance = _difference(x[i], c[cols[i, slot]])
            cols[i, kept], lows[i, kept] = cols[i, slot], np.float32(distance)
            if distance < best:
                best, at = distance, kept
            kept += 1
        label[i], near[i] = cols[i, at], best
        limit, close, tied[i] = best, 0, 0
        slack_best = 8.1 * unit * np.sqrt(best) * (x_norm + c_norm[label[i]]) + 2.0**-50 * d * best
        for slot in range(kept):
            if slot != at:
                distance = np.float64(lows[i, slot])
                slack = 8.1 * unit * np.sqrt(distance) * (x_norm + c_norm[cols[i, slot]]) + 2.0**-50 * d * distance
                slack += slack_best + 2.0**-22 * distance + 1e-35
                others = min(others, distance - slack)
                if distance - slack <= limit:
                    close += 1
                else:
                    lows[i, slot] = np.inf
        far[i] = others
        if close:
            left = 0
            for slot in range(kept):
                if slot == at or lows[i, slot] < np.inf:
                    cols[i, left] = cols[i, slot]
                    left += 1
            tied[i], count[i] = 1, left
