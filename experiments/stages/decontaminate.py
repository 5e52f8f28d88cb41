"""Stage ``decontaminate``: the pool without the documents that share a run of words with an evaluation set."""

import sys
from typing import Any

from strata.curation.pools.left_out import leave_out
from strata.curation.text.decontaminate import find_overlap
from strata.eval.text.tasks import contamination_texts
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Write the inventory of ``inputs.pool`` again, less what overlaps with the tasks ``config.against``.

    With ``config.remove`` false the overlap is only counted. Counts are in the manifest, each match in left_out.parquet.
    """
    pool = open_pool(task, "pool")
    texts = {name: contamination_texts(name) for name in task.config["against"]}
    found = find_overlap((pool[row] for row in range(len(pool))), texts, task.config["n"])
    rows = found.rows if task.config["remove"] else found.rows[:0]
    counts = {name: count for name, count in found.counts.items() if count}
    print(
        f"{pool.name}: {len(found.rows)} of {len(pool)} documents overlap with {counts or 'no task'}", file=sys.stderr
    )
    leave_out(
        task.inputs["pool"],
        rows,
        task.out,
        report=found.table,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
        meta={
            "contaminated": len(found.rows),
            "removed": len(rows),
            "counts": found.counts,
            "texts": found.n_texts,
            "texts_too_short": found.too_short,
        },
    )
