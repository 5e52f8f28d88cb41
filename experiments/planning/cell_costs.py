"""What it would take to fill the cells that say "not run": predicted seconds of the stages behind them."""

from collections.abc import Iterable

from strata.experiments.planning.cost import predictor
from strata.experiments.planning.plan import Plan
from strata.experiments.runner import clock
from strata.experiments.stage import Stage, unique
from strata.experiments.store import Store


class CellCosts:
    """Predictions for one plan and store.

    Args:
        plan: of the experiment.
        store: what is finished in it costs nothing.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self._leaves: dict[tuple[str, str], list[Stage]] = {}
        for run in plan.runs:
            for (group, _), stage in run.scores.items():
                self._leaves.setdefault((run.arm, group), []).append(stage)
            self._leaves.setdefault((run.arm, "data"), []).append(run.sample)
        self._all = {stage.key: stage for stage in plan.stages}
        seconds = predictor(store)
        self._seconds = {key: seconds(stage)[0] for key, stage in self._all.items()}
        self._done = {key for key, stage in self._all.items() if store.done(stage)}
        self._n_seeds = max(1, len({run.seed for run in plan.runs}))

    def cell(self, arm: str, group: str) -> str:
        """The time that one cell lacks, all seeds, as text; empty if nothing is left to run."""
        return self._said(self._leaves.get((arm, group)) or self._of([arm]))

    def of_arms(self, arms: Iterable[str]) -> str:
        """The time that these arms lack."""
        return self._said(self._of(arms))

    def per_seed(self, arms: Iterable[str]) -> float:
        """Seconds of these arms for one more seed: finished stages count too."""
        return sum(self._seconds[stage.key] for stage in unique(self._of(arms))) / self._n_seeds

    def _of(self, arms: Iterable[str]) -> list[Stage]:
        wanted = set(arms)
        return [stage for (arm, _), stages in self._leaves.items() if arm in wanted for stage in stages]

    def _said(self, leaves: list[Stage]) -> str:
        left = [self._seconds[stage.key] for stage in unique(leaves) if stage.key not in self._done]
        return clock(sum(left)) if left else ""
