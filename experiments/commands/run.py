"""`strata run`: everything of an experiment that is not done yet, then its table and figure."""

from typing import Any

from strata.experiments.app import app
from strata.experiments.places import check_runs
from strata.experiments.plan import make_plan
from strata.experiments.report import write_report
from strata.experiments.runner import say
from strata.experiments.session import open_runner, open_store, report_folder
from strata.experiments.tracking import Tracker


@app("run")
def main(config: dict[str, Any]) -> None:
    """Plan, run, report."""
    check_runs(config)
    plan = make_plan(config)
    store = open_store(config)
    runner = open_runner(config, store, plan.name)
    stages = plan.stages
    say(f"{plan.name}: {len(plan.runs)} runs, {len(stages)} stages, store {store.root}")
    ran, _ = runner.run(stages)
    folder = report_folder(plan, config)
    tables = write_report(plan, store, config, folder)
    print("\n" + "\n".join(table.markdown() for table in tables))
    if ran:
        leaves = [store.path(stage) for run in plan.runs for stage in run.scores.values()]
        tracker = Tracker(**runner.tracking)
        tracker.table(folder.name, tables[0].columns, list(tables[0].rows), folder / "figure.png", leaves)
        if tracker.error:
            say(f"W&B: {tracker.error}; nothing is lost, the table is on disk")
        if tracker.mode == "offline":
            say(f"W&B: offline runs in {tracker.directory}/wandb; send them with `wandb sync --sync-all` from there")
    else:
        say("nothing to do: every stage was finished before")
    print(f"table   {folder / 'table.md'}\nfigure  {folder / 'figure.png'}")
