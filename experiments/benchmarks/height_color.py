"""Heights from the color of each pixel alone, beside what a decoder on frozen features made of the same tiles.

What a map of heights owes to color and what to its surroundings: boosted trees on red, green and blue of every land pixel of
the training tiles of ``globe_height``, scored as protocol ``height`` does. The data sheet gives R2 .245 on train, .071 in
distribution and .192 shifted for its own regression of that kind.

``python -m strata.experiments.benchmarks.height_color VALUES --out results/benchmarks/height_color.md``, VALUES being
``values.csv`` of an experiment with the benchmark ``globe_height_shift``.
"""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from strata.curation.errors import ConfigError
from strata.eval.height_metrics import HeightErrors, height_errors
from strata.eval.layouts.globe import GlobePool
from strata.experiments.comparison.statistics import estimate

SPLITS = {"train": "train", "test_id": "in distribution", "test_ood": "shifted"}
METRICS = ("r2", "block_r2", "mae")
GROUP, PROTOCOL = "globe_height_shift", "height-v1"
PIXELS = 400_000  # of train, drawn at random

Predict = Callable[[Float[np.ndarray, "h w 3"]], Float[np.ndarray, "h w"]]


def fit_color(pool: Any, seed: int = 0) -> Predict:
    """A function from an image to heights, learned pixel by pixel on those whose height is known."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    pixels = np.concatenate([np.asarray(pool[row]).reshape(-1, 3) for row in range(len(pool))])
    heights = np.concatenate([pool.target(row).ravel() for row in range(len(pool))])
    known = np.flatnonzero(np.isfinite(heights))
    known = np.random.default_rng(seed).permutation(known)[:PIXELS]
    model = HistGradientBoostingRegressor(random_state=seed).fit(pixels[known], heights[known])

    def predict(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        found: Float[np.ndarray, "h w"] = model.predict(image.reshape(-1, 3)).reshape(image.shape[:2])
        return found

    return predict


def score(predict: Predict, pool: Any, **blocks: int) -> HeightErrors:
    """Its errors on a pool."""
    return height_errors(((predict(np.asarray(pool[row])), pool.target(row)) for row in range(len(pool))), **blocks)


def decoder_values(path: Path) -> dict[tuple[str, str], list[float]]:
    """(arm, metric) -> a value per seed, from ``values.csv`` of an experiment.

    Raises:
        ConfigError: it has no finished heights.
    """
    found: dict[tuple[str, str], list[float]] = {}
    with open(path, newline="") as stream:
        for row in csv.DictReader(stream):
            protocol, _, metric = row["metric"].partition(" ")
            if row["group"] == GROUP and protocol == PROTOCOL and row["value"]:
                found.setdefault((row["arm"], metric), []).append(float(row["value"]))
    if not found:
        raise ConfigError(
            "values", f"{path} holds no {PROTOCOL} on {GROUP}", "give values.csv of a finished experiment"
        )
    return found


def report(color: Mapping[str, HeightErrors], decoded: Mapping[tuple[str, str], Sequence[float]], command: str) -> str:
    """Markdown: a row for color, a row for each arm, and in which numbers an arm is better beyond its interval."""
    heads = [f"{metric}, {SPLITS[split]}" for split in ("test_id", "test_ood") for metric in METRICS]
    lines = ["# Heights: color of the pixel alone, and a decoder on frozen features", ""]
    lines += [
        "Terrain heights of 164 tiles (in distribution) and 803 (shifted); R2 as it is, MAE in m. Decoder: mean ± half-width of",
        "the 95 % t interval over seeds; **bold** where the interval lies on the better side of color.",
        "",
    ]
    lines += ["| | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    cells = [_number(getattr(color[split], metric), metric) for split in ("test_id", "test_ood") for metric in METRICS]
    lines.append("| color of the pixel | " + " | ".join(cells) + " |")
    for arm in dict.fromkeys(arm for arm, _ in decoded):
        cells = []
        for split, suffix in (("test_id", ""), ("test_ood", "_ood")):
            for metric in METRICS:
                cells.append(_compared(decoded.get((arm, metric + suffix), ()), getattr(color[split], metric), metric))
        lines.append(f"| decoder, {arm} | " + " | ".join(cells) + " |")
    train = color["train"]
    lines += ["", f"Color on its own training tiles: R2 {train.r2:.3f}. Made by `{command}`.", ""]
    return "\n".join(lines)


def _compared(values: Sequence[float], color: float, metric: str) -> str:
    if not values:
        return "not run"
    found = estimate(list(values))
    half = 0.0 if found.n < 2 else found.half_width
    text = _number(found.mean, metric) + (f" ± {_number(half, metric)}" if found.n > 1 else "")
    gain = color - found.mean if metric == "mae" else found.mean - color
    return f"**{text}**" if found.n > 1 and gain > half else text


def _number(value: float, metric: str) -> str:
    return f"{value:.1f}" if metric == "mae" else f"{value:.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("values", type=Path, help="values.csv of an experiment")
    parser.add_argument("--root", default="satellite/globe_height")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    decoded = decoder_values(given.values)
    pools = {split: GlobePool(given.root, split) for split in SPLITS}  # type: ignore[arg-type]
    predict = fit_color(pools["train"])
    command = f"python -m strata.experiments.benchmarks.height_color {given.values}"
    text = report({split: score(predict, pool) for split, pool in pools.items()}, decoded, command)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text)


if __name__ == "__main__":
    main()
