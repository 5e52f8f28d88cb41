"""Draw one small scene: a shape filled with a two-color texture, on a cluttered background, under uneven light.

Edges are smooth without supersampling: the coverage of a pixel is ``0.5 - distance / pixel``. All arrays are over the
pixel grid, coordinates in [-1, 1], y down.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from strata.curation.pools.shapes import SHAPES, TEXTURES, Grid

# colors are shared between palettes, so that one mean color does not tell the palette
COLORS = {
    "red": (220, 40, 40),
    "white": (240, 240, 235),
    "blue": (40, 80, 215),
    "yellow": (245, 215, 50),
    "green": (40, 160, 70),
    "black": (25, 25, 30),
    "orange": (245, 135, 30),
    "purple": (130, 50, 170),
    "cyan": (60, 205, 225),
    "pink": (250, 130, 180),
    "brown": (120, 75, 40),
}
PALETTES = (
    ("red", "white"),
    ("blue", "yellow"),
    ("green", "black"),
    ("purple", "orange"),
    ("cyan", "red"),
    ("pink", "blue"),
    ("white", "black"),
    ("yellow", "green"),
    ("brown", "cyan"),
    ("orange", "white"),
    ("purple", "pink"),
    ("black", "yellow"),
)


def draw(
    rng: np.random.Generator, shape: str, texture: str, palette: int, size: int, nuisance: float = 1.0
) -> UInt8[np.ndarray, "s s 3"]:
    """One scene, RGB. Everything but shape, texture and palette is drawn from ``rng``.

    Nuisance: position (+-0.28), scale (0.52 to 0.82 of the half side), rotation (+-40 degrees), phase and angle of the
    texture, background gradient, noise and 3 to 6 pieces of clutter in random colors, direction and strength of the
    light, a color cast, sensor noise. ``nuisance`` in [0, 1] scales all of it: at 0 a concept is one image on gray.
    """
    x, y = _grid(size)
    pixel = 2.0 / size
    canvas = 0.5 + np.float32(nuisance) * (_background(rng, x, y, pixel) - 0.5)
    cx, cy, turn, spin, px, py = (nuisance * rng.uniform(-1.0, 1.0, 6)).tolist()
    scale = 0.67 + nuisance * rng.uniform(-0.15, 0.15)
    u, v = _turned(x - 0.28 * cx, y - 0.28 * cy, 0.7 * turn, scale)
    d = SHAPES[shape](u, v)
    free = 0.0 if texture in ("plain", "rings") else 0.25  # these two sit in the middle of the shape
    tu, tv = _turned(u - free * px, v - free * py, 0.5 * spin, 1.0)
    edge = pixel / scale
    first, second = (np.array(COLORS[name], dtype=np.float32) / 255 for name in PALETTES[palette])
    width = 0.2 if texture == "gradient" else edge
    mix = np.clip(0.5 + TEXTURES[texture](tu, tv, d) / width, 0.0, 1.0)[..., None]
    shade = 1.0 - 0.45 * np.exp(np.minimum(-6.0 * d, 0.0))[..., None]  # contact shadow around the shape
    cover = np.clip(0.5 - d / edge, 0.0, 1.0)[..., None]
    canvas = canvas * shade
    canvas += cover * (first + mix * (second - first) - canvas)
    return _lit(rng, canvas, x, y, nuisance)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Grid, Grid]:
    """Pixel centers in [-1, 1]: x [1, s] and y [s, 1]."""
    axis = ((np.arange(size) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return axis[None, :], axis[:, None]


@lru_cache(maxsize=8)
def _upsample(size: int, knots: int) -> Float32[np.ndarray, "s knots"]:
    """Matrix of linear interpolation from ``knots`` values to ``size`` pixels."""
    at = np.linspace(0, knots - 1, size)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(knots))).astype(np.float32)


def _turned(x: Grid, y: Grid, angle: float, scale: float) -> tuple[Grid, Grid]:
    c, s = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    return c * x + s * y, c * y - s * x


def _background(rng: np.random.Generator, x: Grid, y: Grid, pixel: float) -> Float32[np.ndarray, "s s 3"]:
    """A gradient between two random colors, smooth noise, and soft bars and blobs in random colors."""
    size = y.shape[0]
    one, two = rng.random((2, 3), dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + 0.5 * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    weights = _upsample(size, 5)
    noise = rng.random((3, 5, 5), dtype=np.float32) - 0.5
    smooth = (weights @ noise @ weights.T).transpose(1, 2, 0)
    canvas = one + ramp[..., None] * (two - one) + smooth * np.float32(rng.uniform(0.1, 0.7))
    pieces = int(rng.integers(3, 7))
    place, colors = rng.uniform(-1.0, 1.0, (pieces, 2)), rng.random((pieces, 3), dtype=np.float32)
    angles, longs = rng.uniform(0, np.pi, pieces), rng.uniform(0.08, 0.45, pieces)
    thins, rounds = rng.uniform(0.05, 0.18, pieces), rng.random(pieces) < 0.5
    for i in range(pieces):
        u, v = _turned(x - np.float32(place[i, 0]), y - np.float32(place[i, 1]), float(angles[i]), 1.0)
        if rounds[i]:
            d = np.hypot(np.maximum(np.abs(u) - np.float32(longs[i] / 2), 0), v) - np.float32(thins[i])
        else:
            d = np.maximum(np.abs(u) - np.float32(longs[i]), np.abs(v) - np.float32(thins[i]))
        cover = np.clip(0.5 - d / np.float32(pixel), 0.0, 1.0)[..., None]
        canvas += cover * (colors[i] - canvas)
    return np.clip(canvas, 0.0, 1.0)


def _lit(
    rng: np.random.Generator, canvas: Float32[np.ndarray, "s s 3"], x: Grid, y: Grid, nuisance: float
) -> UInt8[np.ndarray, "s s 3"]:
    """The scene under a light from one side with a color cast, plus sensor noise, as bytes."""
    angle, strength = rng.uniform(0, 2 * np.pi), nuisance * rng.uniform(0.0, 0.35)
    gain = 0.9 + nuisance * rng.uniform(-0.25, 0.25)
    a, b = np.float32(gain * strength * np.cos(angle)), np.float32(gain * strength * np.sin(angle))
    light = np.float32(gain) + a * x + b * y
    cast = (1.0 + nuisance * rng.uniform(-0.1, 0.1, 3)).astype(np.float32)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(nuisance * rng.uniform(0.0, 0.03))
    return (np.clip(canvas * (light[..., None] * cast) + noise, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
