"""Predict the seconds of a stage before it runs: from this store's own finished stages, else from built-in rates."""

import functools
import statistics
from collections.abc import Callable

from strata.experiments.planning.cluster_cost import UNIT, cluster_rates
from strata.experiments.stage import Stage
from strata.experiments.store import Store

# Work per second of one CPU thread of a 2-core x86-64 machine; the unit is the stage's own (see Stage.work).
DEFAULT_RATES = {
    "pool": 10_000.0,  # items decoded
    "bands": 1_000.0,  # items decoded
    "embed": 2_000.0,  # items embedded
    "cluster": UNIT,  # see cluster_cost
    "codebook": 5e3,  # rows
    "extend": 5e3,  # rows
    "sample": 1e6,  # rows
    "update": 1e6,  # rows
    "pretrain": 1_500.0,  # images seen (all crops of an image count once)
    "features": 1_500.0,  # images
    "evaluate": 1_500.0,  # images
    "measure": 5e4,  # rows
    "decontaminate": 3_000.0,  # documents
    "tokenizer": 2_000.0,  # documents
    "tokenize": 2_000.0,  # documents
    "sample_tokens": 1e6,  # rows
    "profile": 1e5,  # rows
    "pretrain_text": 5_000.0,  # tokens, of the micro model
    "text_features": 500.0,  # texts
    "perplexity": 100.0,  # documents of the pool; few of each source are scored
    "lm_tasks": 100.0,  # items
}
OVERHEAD = 0.3  # seconds of any stage


def predict(stage: Stage, store: Store) -> tuple[float, bool]:
    """Seconds a stage will take, and whether a measured rate stands behind the number; see ``predictor``."""
    return predictor(store)(stage)


def predictor(store: Store, *, calibrate: bool = False) -> Callable[[Stage], tuple[float, bool]]:
    """``predict`` for many stages: what the store has measured of a kind is read once, not once per stage.

    The rate is that of this store's own stages of the kind; of clusterings, before there are any, that of this machine's
    calibration: the one in the runs folder, or with ``calibrate`` one made now, in about two seconds.
    """

    @functools.cache
    def rate(kind: str, device: str) -> tuple[float, bool]:
        rates = [work / max(seconds - OVERHEAD, 1e-3) for work, seconds in store.seconds(kind)]
        if not rates and kind == "cluster":
            rates = cluster_rates(store.root.parent, device, calibrate)
        return (statistics.median(rates), True) if rates else (DEFAULT_RATES[kind], False)

    def seconds(stage: Stage) -> tuple[float, bool]:
        per_second, measured = rate(stage.kind, stage.runtime["device"] if stage.kind == "cluster" else "")
        return OVERHEAD + stage.work / per_second, measured

    return seconds
