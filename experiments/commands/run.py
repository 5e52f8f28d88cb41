"""`strata run`: everything of an experiment that is not done yet, then its table and figure."""

import threading
from pathlib import Path
from typing import Any

from strata.curation.artifact import write_json
from strata.experiments.comparison.claims import left_out
from strata.experiments.comparison.columns import column_means
from strata.experiments.comparison.table import Table
from strata.experiments.comparison.values import read_values
from strata.experiments.console.app import app
from strata.experiments.lock import hold
from strata.experiments.planning.plan import Plan, make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.runner import Runner, say
from strata.experiments.session import open_runner, open_store, report_folder
from strata.experiments.store import Store
from strata.experiments.tags import stage_tags
from strata.experiments.tracking import Tracker, Trial, take_trial


@app("run")
def main(config: dict[str, Any]) -> None:
    """Plan, run, report."""
    trial = take_trial()  # before workers inherit the environment
    plan = make_plan(config)
    store = open_store(config)
    runner = open_runner(config, store, plan.name)
    runner.tags = stage_tags(plan)
    stages = plan.stages
    say(f"{plan.name}: {len(plan.runs)} runs, {len(stages)} stages, store {store.root}")
    for line in left_out(config):
        say(line)
    ran, _ = runner.run(stages)
    folder = report_folder(plan, config)
    tables = write_report(plan, store, config, folder)
    print("\n" + "\n".join(table.markdown() for table in tables))
    if not ran:
        say("nothing to do: every stage was finished before")
    _track_table(plan, store, config, tables[0], folder, runner, trial)
    print(f"table   {folder / 'table.md'}\nfigure  {folder / 'figure.png'}\nreport  {folder / 'report.html'}")


def _track_table(
    plan: Plan,
    store: Store,
    config: dict[str, Any],
    table: Table,
    folder: Path,
    runner: Runner,
    trial: Trial | None,
) -> None:
    """Send the table to W&B, once per report: whoever has done so leaves a mark beside it. A sweep's trials are its own runs."""
    tracker = Tracker(**runner.tracking)
    mark = folder / "wandb.json"
    if tracker.mode == "disabled":
        return
    with hold(folder / "wandb.lock", threading.Event(), lambda: say("waiting for another run: table")):
        if mark.is_file() and not trial:
            return
        run_id = f"{plan.name}-{folder.name}"  # experiments may share every stage
        tags = sorted({tag for found in runner.tags.values() for tag in found})
        leaves = [store.path(stage) for run in plan.runs for stage in run.scores.values()]
        means = column_means(read_values(folder / "values.csv"), config)
        figure = folder / "figure.png"
        tracker.table(run_id, table.columns, list(table.rows), figure, leaves, tags, means, trial)
        if tracker.error:
            say(f"W&B: {tracker.error}; nothing is lost, the table is on disk")
        elif not trial:
            write_json(mark, {"run": run_id, "mode": tracker.mode, "project": tracker.project})
    if tracker.mode == "offline":
        say(f"W&B: offline runs in {tracker.directory}/wandb; send them with `wandb sync --sync-all` from there")
