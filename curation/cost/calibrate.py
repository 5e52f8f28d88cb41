"""Rates of this machine, measured in about two seconds and kept in a file with the machine's name and the date."""

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strata.curation.artifact import write_json
from strata.curation.cost.work import Rates
from strata.curation.errors import DataError
from strata.curation.kmeans.distance import full_precision
from strata.curation.kmeans.match import Target, has_bfloat16, match
from strata.curation.kmeans.plus_plus import plus_plus
from strata.curation.kmeans.points import Points

VERSION = 1  # of the file: raised when a rate changes its meaning
_CLUSTERS, _NARROW, _WIDE = 1024, 64, 512  # the two widths whose difference is the price of a product


def machine_id(device: str = "cpu") -> str:
    """Processor, cores (or GPU) and torch, hashed: another machine or version is calibrated anew."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    parts = [model, str(os.cpu_count()), torch.__version__, str(VERSION)]
    if device.startswith("cuda"):
        parts.append(torch.cuda.get_device_name(device))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def calibration_file(folder: Path, device: str = "cpu") -> Path:
    """Where the rates of this machine are kept."""
    return folder / f"{machine_id(device)}.json"


def calibrated(folder: Path, device: str = "cpu") -> Rates:
    """Rates of this machine from ``folder/<machine>.json``; measured, and kept there, where there is none.

    The file is only written if the folder's parent exists: a plan makes no runs folder.

    Raises:
        DataError: the file is not one of ours.
    """
    file = calibration_file(folder, device)
    if file.is_file():
        return read_rates(file)
    rates = measure(device)
    if folder.parent.is_dir():
        folder.mkdir(exist_ok=True)
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
        content = {"machine": platform.platform(), "device": device, "date": date, "version": VERSION}
        write_json(file, content | {"rates": dataclasses.asdict(rates)})
    return rates


def read_rates(file: Path) -> Rates:
    """Rates from a calibration file, of this machine or another.

    Raises:
        DataError: missing, or not such a file.
    """
    try:
        return Rates.from_dict(json.loads(file.read_text())["rates"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is no calibration of strata; delete it, or name one under <runs>/calibration"
        ) from error


@lru_cache
def measure(device: str = "cpu") -> Rates:
    """Time the engine's own kernels on one thread (or GPU), the best of three."""
    if device.startswith("cuda"):
        return _measure_gpu(device)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        low = torch.bfloat16 if has_bfloat16() else torch.float32
        screen, pairs = _screening(low)
        narrow, _ = _screening(torch.float32)
        exact, written = _seeding()
        return Rates(
            screen=screen,
            narrow=narrow,
            pairs=pairs,
            exact=exact,
            written=written,
            moved=_moved(),
            sorts=_sorts(),
            calls=_calls(),
            low_precision=low == torch.bfloat16,
        )
    finally:
        torch.set_num_threads(before)


def best_of(call: Callable[[], object], repeats: int = 3) -> float:
    """Shortest time of a call in CPU seconds, after one that is not counted: load of others does not enter."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return max(min(times), 1e-6)


def _screening(dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of products and distances/s of the loop after them: time = pairs (2 d / screen + 1 / rate)."""
    per_pair: dict[int, float] = {}
    for d in (_NARROW, _WIDE):
        rng = np.random.default_rng(0)
        c = torch.from_numpy(rng.uniform(-1, 1, (_CLUSTERS, d)).astype(np.float32))
        x = c.repeat(2, 1) + torch.from_numpy(rng.normal(0, 0.2, (2 * _CLUSTERS, d)).astype(np.float32))
        target = Target(c)
        per_pair[d] = best_of(lambda: match(x, target, dtype)) / (len(x) * _CLUSTERS)  # noqa: B023
    return _split(per_pair)


def _seeding(candidates: int = 192, n: int = 32_768) -> tuple[float, float]:
    """FLOP/s of the float64 products of k-means++, and distances/s that it writes after them."""
    rng = np.random.default_rng(0)
    per_pair: dict[int, float] = {}
    for d in (8, 256):
        a, b = torch.from_numpy(rng.random((candidates, d))), torch.from_numpy(rng.random((n, d)))
        squares = a.square().sum(1)[:, None], b.square().sum(1)

        def distances() -> None:
            out = np.empty((candidates, n))
            out[:] = torch.addmm(squares[1], a, b.T, alpha=-2).add_(squares[0]).numpy()  # noqa: B023

        per_pair[d] = best_of(distances) / (candidates * n)
    return _split(per_pair)


def _split(per_pair: dict[int, float]) -> tuple[float, float]:
    """Two times per distance, at two widths d, as FLOP/s (2 d each) and distances/s beside the product."""
    (narrow, one), (wide, other) = sorted(per_pair.items())
    slope = max((other - one) / (wide - narrow), 0.1 * other / wide)  # if disturbed, the difference may vanish
    return 2 / slope, 1 / max(one - narrow * slope, 0.1 * one)


def _moved() -> float:
    """Bytes/s of elementwise passes over a matrix larger than the cache, in float64."""
    values = np.random.default_rng(0).random((40_000, 128))
    out = np.empty_like(values)

    def passes() -> None:
        np.subtract(values, 0.5, out=out)
        np.minimum(out, values, out=out)

    return values.nbytes * 5 / best_of(passes)


def _sorts(n: int = 200_000) -> float:
    rng = np.random.default_rng(0)
    labels, distance = rng.integers(0, n // 20, n), rng.random(n)
    return float(n * np.log2(n) / best_of(lambda: np.lexsort((distance, labels))))


def _calls() -> float:
    """Small steps a second: k-means++ of so few rows that nothing else counts; see the calls of ``steps.plus_plus``."""
    points = Points(np.random.default_rng(0).random((300, 2), dtype=np.float32), device="cpu")
    steps = 100 * 0.2 + 3 * (6 + 7)
    return steps / best_of(lambda: plus_plus(points, 100, np.random.default_rng(0)))


def _measure_gpu(device: str) -> Rates:
    """A GPU screens in float32; its tiles are written and read some five times after the product."""
    where = torch.device(device)

    def timed(call: Callable[[], object]) -> float:
        call()
        torch.cuda.synchronize(where)
        began = time.perf_counter()
        call()
        torch.cuda.synchronize(where)
        return time.perf_counter() - began

    values: dict[str, Any] = {}
    a, b = torch.rand(8192, 1024, device=where), torch.rand(4096, 1024, device=where)
    with full_precision():
        values["screen"] = values["narrow"] = 2 * 8192 * 4096 * 1024 / timed(lambda: a @ b.T)
        wide = a.double(), b.double()
        values["exact"] = 2 * 8192 * 4096 * 1024 / timed(lambda: wide[0] @ wide[1].T)
    tile = torch.rand(8192, 4096, device=where)
    values["pairs"] = tile.numel() / timed(
        lambda: (tile.argmin(1), tile.amin(1), tile.scatter_(1, tile[:, :1].long(), 0))
    )
    values["written"] = values["pairs"] / 4
    values["moved"], values["sorts"], values["calls"] = _moved(), _sorts(), _calls()  # done on the host
    return Rates(**values, low_precision=False)
