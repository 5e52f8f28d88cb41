"""Checks of what stages would refuse only when they run: draws, encoders, clusterings, recipes and probes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from strata.curation.encoders.pca import PCAEncoder
from strata.curation.errors import ConfigError, StrataError
from strata.curation.hierarchical_kmeans import HierarchicalKMeans
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of
from strata.experiments.settings.build import build, placed, typed
from strata.experiments.settings.checks import whole
from strata.experiments.settings.signature import check_call
from strata.experiments.stage import canonical_json


def field_of(config: Mapping[str, Any], arm: str, name: str) -> str:
    """Where a setting of an arm is said: ``arms.<arm>.<name>``, or ``name`` if the arm takes the default."""
    return f"arms.{arm}.{name}" if name in ((config.get("arms") or {}).get(arm) or {}) else name


def check_draw(sampler: Any, size: Any, pool: Pool, arm: str, field: str) -> int | None:
    """The rows that a sampler is to draw; None if it takes no size.

    Raises:
        ConfigError: more than the pool has for it, or it needs labels that the pool has not.
    """
    if "labels" in sampler.needs and (pool.labels is None or not (np.asarray(pool.labels) >= 0).any()):
        raise ConfigError(f"arms.{arm}", f"its sampler needs labels and {pool.name} has none", "use another sampler")
    if not sampler.sized:
        return None
    whole(field, size, 1)
    rows, what = len(pool), "a pool of"
    if "labels" in sampler.needs:
        rows, what = int((np.asarray(pool.labels) >= 0).sum()), "the labelled rows of a pool, "
    most = rows * getattr(sampler, "max_repeats", 1)
    if size > most:
        fix = f"ask for at most {most:,}, or use another pool"
        raise ConfigError(field, f"{size:,} rows are wanted from {what} {rows:,} (arm {arm})", fix)
    return int(size)


def check_hierarchy(settings: Mapping[str, Any], n: int, field: str = "hierarchy") -> None:
    """Every setting of the clustering, for a pool of ``n`` rows."""
    known = HierarchicalKMeans(()).get_params()
    for name in settings:
        if name not in known or name in ("device", "random_state", "verbose", "checkpoint_dir"):
            raise ConfigError(f"{field}.{name}", "no such setting", f"use one of {', '.join(sorted(known))}")
    for name in ("n_clusters", "n_iter"):
        if name not in settings:
            raise ConfigError(f"{field}.{name}", "not given", f"choose a file for {field}, e.g. hierarchy=micro")
    try:
        HierarchicalKMeans(**settings).check(n)
    except StrataError as error:
        raise placed(error, field) from None
    check_call(HierarchicalKMeans, settings, field)


def check_encoder(encoder: Any, n: int) -> None:
    """Raise a ConfigError if an encoder that learns from the pool wants more than its ``n`` rows can teach."""
    if isinstance(encoder, PCAEncoder):
        encoder.check_rows(n)


def check_ssl(settings: Mapping[str, Any], images: int, field: str) -> tuple[Any, int]:
    """The typed recipe for a subset of so many images, and how many blocks of its backbone the probes read.

    Raises:
        ConfigError: names ``<field>.<setting>``.
    """
    try:
        recipe, blocks = _recipe(canonical_json(settings))
    except StrataError as error:
        raise placed(error, field) from None
    if recipe.batch_size > images:
        problem = f"{recipe.batch_size} is more than the {images:,} images to train on"
        raise ConfigError(f"{field}.batch_size", problem, "lower it, or draw more images")
    return recipe, blocks


def check_sampling(recipe: Any, sampler: Mapping[str, Any], field: str) -> None:
    """Raise a ConfigError if rows are repeated before training and weighted again in it."""
    if recipe.sampling != "epoch" and sampler.get("max_repeats", 1) > 1:
        problem = f"{recipe.sampling!r} weights rows, and the sampler repeats them"
        raise ConfigError(f"{field}.sampling", problem, "use sampler=all, or max_repeats=1, or sampling=epoch")


def check_items(recipe: Any, pool: Pool, field: str, config: Mapping[str, Any]) -> None:
    """Raise a ConfigError unless recipe, pool and benchmarks go together: RGB images, or tiles of as many bands."""
    from strata.eval.extract import check_items as check_read
    from strata.experiments.planning.plan_eval import open_benchmark
    from strata.ssl.image.bands import check_bands

    try:
        check_bands(recipe, pool)
    except StrataError as error:
        raise placed(error, field if getattr(error, "field", "").startswith("ssl.") else "pool") from None
    kind = kind_of(pool)
    if kind == "tiles" and (config.get("online") or {}).get("every"):
        raise ConfigError("online.every", "scores networks of RGB images, and the pool holds tiles", "set it to 0")
    for name, benchmark in (config.get("benchmarks") or {}).items():
        for split, probed in open_benchmark(benchmark, name).splits.items():
            check_read(f"benchmarks.{name}.{split}", probed, f"a backbone trained on {pool.name!r}", kind)


@cache
def _recipe(settings_json: str) -> tuple[Any, int]:
    """The recipe and its backbone's probed blocks. The network is made without memory for its weights."""
    import json

    import torch

    from strata.eval.backbones.base import MAX_BLOCKS
    from strata.ssl.image.backbone import create_backbone
    from strata.ssl.image.config import ImageSSLConfig

    recipe = typed(ImageSSLConfig, json.loads(settings_json), "ssl")
    with torch.device("meta"):
        network = create_backbone(recipe)
    return recipe, min(MAX_BLOCKS, len(network.blocks))


def metric_names(protocols: Mapping[str, Any], benchmarks: Mapping[str, Any]) -> list[str]:
    """What the protocols measure on these benchmarks, each name once."""
    from strata.experiments.planning.plan_eval import open_benchmark

    built = [build(options, f"protocols.{name}") for name, options in protocols.items()]
    splits = {split for name, each in benchmarks.items() for split in open_benchmark(each, name).splits}
    return list(dict.fromkeys(metric for protocol in built for metric in protocol.metrics_of(splits)))
