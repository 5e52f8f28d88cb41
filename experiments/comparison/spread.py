"""How much scores vary between arms that differ only in the rows drawn (paper, section 4.2.3): standard deviations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strata.experiments.comparison.columns import columns_of
from strata.experiments.comparison.printed import printed_numbers
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.table import NOT_RUN, Table
from strata.experiments.comparison.values import Value

BOUND = "/upper_bound"  # the paper says "below" of these


def spread_table(values: Sequence[Value], config: Mapping[str, Any]) -> list[Table]:
    """A row per column: the standard deviation over the arms of ``table.spread``, seed by seed, beside the paper's."""
    arms = config["table"].get("spread") or []
    if len(arms) < 2:
        return []
    file = (config.get("printed") or {}).get("file")
    printed = printed_numbers(file) if file else {}
    rows = []
    for column in columns_of(config).values():
        found = [column.of(values, arm) for arm in arms]
        seeds = sorted(set.intersection(*[set(arm) for arm in found]))
        spreads = [float(np.std([arm[seed] for arm in found], ddof=1)) for seed in seeds]
        said = NOT_RUN
        if spreads:
            over = estimate(spreads)
            said = f"{over.mean:.2f}" + (f" ± {over.half_width:.2f}" if over.n > 1 else "")
        theirs = {arm: numbers[0] for (arm, name), numbers in printed.items() if name == column.printed_as}
        bounds = {arm: numbers[0] for (arm, name), numbers in printed.items() if name == column.printed_as + BOUND}
        paper = [f"{number.value:g}" for number in theirs.values()] + [
            f"below {number.value:g}" for number in bounds.values()
        ]
        rows.append([column.name, said, "; ".join(paper)])
    notes = [f"Standard deviation over {len(arms)} draws from the same clusters, mean and 95 % t interval over seeds."]
    return [Table(f"{config['name']}: sampling noise", ["measure", "ours", "paper"], rows, notes)]
