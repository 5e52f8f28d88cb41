"""Checks of experiments on the tree of clusters (paper, Fig. 5): is there a tree, has it the level, can it be looked at?"""

from collections.abc import Mapping
from typing import Any

from strata.curation.errors import ConfigError
from strata.curation.pools.content import kind_of
from strata.experiments.planning.checks_stages import field_of
from strata.experiments.planning.plan import Pools
from strata.experiments.settings.checks import one_of, whole

SHOWN = ("images", "tiles")


def check_trees(
    config: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], measures: Mapping[str, Any], pools: Pools
) -> None:
    """Raise a ConfigError for the first measure of the tree, or figure of it, that an arm has not the tree for.

    Args:
        config: of the experiment. arms: full settings of each. measures: built.
    """
    for name, measure in measures.items():
        if measure.needs_tree:
            for arm, settings in arms.items():
                _check_level(config, arm, settings, f"measures.{name}.level", measure.level)
    if config["figure"]["kind"] == "tree":
        _check_figure(config, arms, pools)


def _check_figure(config: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], pools: Pools) -> None:
    figure = config["figure"]
    drawn = figure.get("arms") or list(arms)
    for arm in drawn:
        one_of("figure.arms", arm, tuple(arms))
    for name in ("level", "children", "grandchildren", "images"):
        whole(f"figure.{name}", figure.get(name), 1)
    places = figure.get("quantiles")
    if not isinstance(places, list) or not places or not all(
        isinstance(place, int | float) and 0 <= place <= 1 for place in places
    ):  # fmt: skip
        raise ConfigError("figure.quantiles", f"{places!r}", "list numbers from 0 to 1, e.g. [0.75, 0.5, 0.25]")
    for arm in drawn:
        _check_level(config, arm, arms[arm], "figure.level", figure["level"])
        pool = pools.open(arms[arm]["pool"], field_of(config, arm, "pool"))
        if kind_of(pool) not in SHOWN:
            problem = f"{pool.name!r} holds {kind_of(pool)}, and a tree is drawn of images"
            raise ConfigError(field_of(config, arm, "pool"), problem, "name other arms in figure.arms, or another kind")


def _check_level(config: Mapping[str, Any], arm: str, settings: Mapping[str, Any], field: str, level: int) -> None:
    if settings["measured"] != "centroids" or settings["codebook"] is not None:
        what = "codebook" if settings["codebook"] is not None else "measured"
        raise ConfigError(
            field_of(config, arm, what), "leaves no tree of clusters", "set measured=centroids, codebook=null"
        )
    levels = len(settings["hierarchy"]["n_clusters"])
    if level > levels:
        raise ConfigError(field, f"{level}, and the tree of {arm} has {levels} levels", f"use 1 to {levels}")
