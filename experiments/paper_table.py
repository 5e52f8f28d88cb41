"""What the paper printed beside ours, for raw and curated: do the directions agree?"""

from collections.abc import Mapping, Sequence
from typing import Any

from strata.experiments.results import Value
from strata.experiments.statistics import paired_difference
from strata.experiments.table import NOT_RUN, Table, by_seed, cell, difference

ARMS = ("raw", "hierarchical")  # the paper's two


def beside_paper(name: str, values: Sequence[Value], paper: Mapping[str, Any]) -> Table:
    """A row for each number that the paper printed for both; "agrees" is decided only where the interval excludes zero.

    Args:
        name: of the experiment.
        values: of all runs.
        paper: ``source``, and ``rows``: name -> group, metric, and the printed raw and hierarchical; see ``check_paper``.
    """
    rows = []
    for label, printed in paper["rows"].items():
        group, metric = printed["group"], printed["metric"]
        ours = {arm: by_seed(values, arm, group, metric) for arm in ARMS}
        found = paired_difference(ours["hierarchical"], ours["raw"])
        theirs = printed["hierarchical"] - printed["raw"]
        agrees = NOT_RUN
        if found is not None:
            agrees = "yes" if found.mean * theirs > 0 else "no"
            agrees = agrees if found.excludes_zero else f"not decided ({agrees} by the mean)"
        rows.append([
            label, f"{metric}, {group}", *[cell(ours[arm], group, metric) for arm in ARMS], difference(found, metric),
            *[f"{printed[arm]:g}" for arm in ARMS], f"{theirs:+.2f}", agrees,
        ])  # fmt: skip
    heads = ["", "ours", "raw", "hierarchical", "difference", "paper, raw", "paper, curated", "paper, difference",
             "direction agrees"]  # fmt: skip
    return Table(f"{name}: beside the paper", heads, rows, [f"Paper: {paper['source']}"])
