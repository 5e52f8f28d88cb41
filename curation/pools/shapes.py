"""Shapes as signed distance fields, and the textures that fill them.

A shape maps coordinates ``u, v`` (about [-1, 1], v down) to the distance from its outline, negative inside (after
I. Quilez, "2D distance functions"; only near the outline need it be exact). A texture maps the same coordinates and the
shape's distance to a value that is negative where the first color of the palette stands and positive where the second.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Grid = Float32[np.ndarray, "s s"]


def _disc(u: Grid, v: Grid) -> Grid:
    return np.hypot(u, v) - 0.9


def _square(u: Grid, v: Grid) -> Grid:
    return np.maximum(np.abs(u), np.abs(v)) - 0.78


def _triangle(u: Grid, v: Grid) -> Grid:
    return np.maximum(np.abs(u) * 0.866 - (v - 0.12) * 0.5, v - 0.12) - 0.53


def _star(u: Grid, v: Grid) -> Grid:
    fifth = np.pi / 5
    r = np.hypot(u, v)
    angle = np.abs((np.arctan2(u, -v) + fifth) % (2 * fifth) - fifth)  # 0 at a tip, pi/5 at a notch
    tip, notch = 1.08, 0.48
    dx, dy = notch * np.cos(fifth) - tip, notch * np.sin(fifth)
    return (dy * (r * np.cos(angle) - tip) - dx * r * np.sin(angle)) / np.hypot(dx, dy)


def _ring(u: Grid, v: Grid) -> Grid:
    return np.abs(np.hypot(u, v) - 0.66) - 0.29


def _cross(u: Grid, v: Grid) -> Grid:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.34, b - 0.98), np.maximum(b - 0.34, a - 0.98))


def _heart(u: Grid, v: Grid) -> Grid:
    x, y = np.abs(u) * 0.6, 0.52 - v * 0.6
    lobe = np.hypot(x - 0.25, y - 0.75) - 0.3536
    corner = np.hypot(x, y - 1.0)
    half = 0.5 * np.maximum(x + y, 0.0)
    side = np.minimum(corner, np.hypot(x - half, y - half)) * np.sign(x - y)
    return np.where(x + y > 1.0, lobe, side) / 0.6


def _crescent(u: Grid, v: Grid) -> Grid:
    return np.maximum(np.hypot(u - 0.35, v) - 1.0, 0.82 - np.hypot(u - 0.93, v))


def _bar(u: Grid, v: Grid) -> Grid:
    return np.hypot(np.maximum(np.abs(u) - 0.75, 0.0), v) - 0.33


def _arrow(u: Grid, v: Grid) -> Grid:
    b = np.abs(v)
    head = np.maximum((u + b - 1.0) * 0.707, 0.05 - u)
    return np.minimum(head, np.maximum(np.maximum(-u - 0.95, u - 0.3), b - 0.3))


def _flower(u: Grid, v: Grid) -> Grid:
    return (np.hypot(u, v) - 0.72 - 0.25 * np.cos(6.0 * np.arctan2(v, u))) * 0.75


def _hourglass(u: Grid, v: Grid) -> Grid:
    b = np.abs(v)
    return np.maximum(b - 0.92, (np.abs(u) - 0.12 - 0.8 * b) * 0.78)


def _plain(u: Grid, v: Grid, d: Grid) -> Grid:
    return d + 0.2  # a rim in the second color


def _stripes(u: Grid, v: Grid, d: Grid) -> Grid:
    return np.sin(9.5 * u) * 0.11


def _checks(u: Grid, v: Grid, d: Grid) -> Grid:
    return np.sin(6.6 * u) * np.sin(6.6 * v) * 0.18


def _dots(u: Grid, v: Grid, d: Grid) -> Grid:
    x, y = u % 0.62 - 0.31, v % 0.62 - 0.31
    return 0.2 - np.hypot(x, y)


def _rings(u: Grid, v: Grid, d: Grid) -> Grid:
    return np.sin(11.5 * np.hypot(u, v)) * 0.1


def _halves(u: Grid, v: Grid, d: Grid) -> Grid:
    return u


def _zigzag(u: Grid, v: Grid, d: Grid) -> Grid:
    return np.sin(8.0 * (v + np.abs(u % 0.9 - 0.45))) * 0.13


def _gradient(u: Grid, v: Grid, d: Grid) -> Grid:
    return u * 0.1  # so wide a transition that it is a smooth ramp


SHAPES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "bar": _bar,
    "arrow": _arrow,
    "flower": _flower,
    "hourglass": _hourglass,
}
TEXTURES: dict[str, Callable[[Grid, Grid, Grid], Grid]] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "halves": _halves,
    "zigzag": _zigzag,
    "gradient": _gradient,
}
