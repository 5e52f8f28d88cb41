"""Tags of W&B runs: which table, arms and seeds a stage is of."""

from strata.experiments.planning.plan import Plan


def stage_tags(plan: Plan) -> dict[str, list[str]]:
    """stage key -> ["table:NAME", "arm:ARM", ..., "seed:SEED", ...] of all runs of the plan that use the stage.

    A stage has one W&B run, made by the experiment that ran it first: it carries the tags of that one.
    """
    found: dict[str, dict[str, None]] = {}
    for run in plan.runs:
        leaves = run.scores.values() or [run.pretrain or run.sample]
        for key in {stage.key for leaf in leaves for stage in leaf.walk()}:
            found.setdefault(key, {f"table:{plan.name}": None}).update(
                {f"arm:{run.arm}": None, f"seed:{run.seed}": None}
            )
    return {key: sorted(tag[:64] for tag in tags) for key, tags in found.items()}  # W&B allows 64 letters
